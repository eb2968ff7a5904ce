"""Slots that nodes take, and lend to the nodes that they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

__all__ = ["Slot", "lending"]


class Slot:
    """One of an executor's slots. A node that waits for further nodes on the same executor lends them its own."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self.free = free
        self._borrowers = 0
        self._over = False

    async def __aenter__(self) -> Self:
        await self.free.acquire()
        self._before = _held.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held.reset(self._before)
        self._over = True
        if not self._borrowers:
            self.free.release()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Give the slot away and take one back in the end."""
        self._borrowers += 1
        if self._borrowers == 1 and not self._over:
            self.free.release()
        try:
            yield
        finally:
            if self._borrowers == 1 and not self._over:
                await self.free.acquire()  # while it waits it counts as lent, so that nobody releases it twice
            self._borrowers -= 1


_held: ContextVar[Slot | None] = ContextVar("held", default=None)


@asynccontextmanager
async def lending(free: asyncio.Semaphore) -> AsyncIterator[None]:
    """Lend the slot of the node that runs here, if it is one of these, for as long as it waits for others."""
    slot = _held.get()
    if slot is None or slot.free is not free:
        yield
    else:
        async with slot.lent():
            yield
