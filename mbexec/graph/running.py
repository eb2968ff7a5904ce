"""Running one node, and ending tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, TypeVar

from mbexec.graph.contract import End, NodeResult, RunContext, name_of
from mbexec.graph.copies import Memo

__all__ = ["cancel", "checked_timeout", "read", "run_node"]

StateT = TypeVar("StateT")
_LOOK_AGAIN = 0.02  # seconds


async def run_node(node: Any, start: RunContext[StateT], known: Memo, timeout: float | None) -> NodeResult[StateT]:
    """Run a node on a copy of what it starts from. What it raises stands in the result, but for what ends a run."""
    try:
        context = start.copy(known)
    except Exception as raised:  # what an earlier node of the path left can't be copied
        return NodeResult(node, End, start, 0.0, raised, start)
    error: Exception | None = None
    following: Any = End
    began = time.perf_counter()
    try:
        following = await (node.run(context) if timeout is None else _in_time(node, context, timeout))
        if not isinstance(following, End) and not callable(getattr(following, "run", None)):
            raise TypeError(f"{name_of(node)} returned {following!r}; a node returns the next node or End().")
    except Exception as raised:
        error, following = raised, End
    ended = time.perf_counter()
    return NodeResult(node, following, context, 1e3 * (ended - began), error, start)


async def _in_time(node: Any, context: RunContext[Any], timeout: float) -> Any:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await node.run(context)
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"{name_of(node)} did not end within {timeout:g} s.") from error
        raise


def checked_timeout(timeout: float | None) -> float | None:
    """The timeout, if it is one."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout = {timeout!r} must be a positive number of seconds, or None.")
    return timeout


def read(task: asyncio.Task[Any]) -> None:
    """Look at what a task raised, so that nobody logs that nobody did."""
    if not task.cancelled():
        task.exception()


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, however often one is told to hurry."""
    left = [task for task in tasks if not task.done()]
    told = None
    untold = set(left)
    while left:
        # A task that is being cancelled already is not told again, which would cut short how it cleans up. But it may
        # only have met a timeout of its own and mean to go on after it, and nothing tells when: look again.
        for task in left:
            if task in untold and not task.cancelling():
                task.cancel()
                untold.discard(task)
        try:
            await asyncio.wait(left, timeout=_LOOK_AGAIN if untold else None)
        except asyncio.CancelledError as error:
            told = error
        left = [task for task in left if not task.done()]
        untold.intersection_update(left)
    if told is not None:
        raise told
