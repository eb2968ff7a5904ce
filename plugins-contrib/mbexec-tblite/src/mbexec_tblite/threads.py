"""How many threads a calculation uses: OpenMP in tblite, and the BLAS that some builds of it call."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from threadpoolctl import OpenBLASController, ThreadpoolController

__all__ = ["thread_limits"]


@contextlib.contextmanager
def thread_limits(ncores: int) -> Iterator[None]:
    """Use ``ncores`` threads inside the block, in tblite and in BLAS.

    Parameters
    ----------
    ncores : int
        OpenMP's number belongs to the calling thread. BLAS has one number for the whole process: where several
        threads calculate at once, the first to come sets it and the last to leave puts the old one back.
    """
    _blas.enter(ncores)
    before = _set("openmp", ncores)
    try:
        yield
    finally:
        _restore(before)
        _blas.leave()


class _BlasLimit:
    """BLAS held at a number of threads while any calculation of the process runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self, ncores: int) -> None:
        """A calculation begins: the first one sets the number."""
        with self._lock:
            if self._running == 0:
                self._before = _set("blas", ncores)
            self._running += 1

    def leave(self) -> None:
        """A calculation ends: the last one sets it back."""
        with self._lock:
            self._running -= 1
            if self._running == 0:
                _restore(self._before)


def _set(kind: str, ncores: int) -> list[tuple[Any, int]]:
    """Set the number of the libraries of a kind; return those that had another, with it."""
    before = [(library, library.num_threads) for library in _libraries(kind)]
    changed = [(library, number) for library, number in before if number not in (ncores, None)]
    _restore([(library, ncores) for library, _ in changed])
    return changed


def _restore(numbers: list[tuple[Any, int]]) -> None:
    for library, number in numbers:
        with _any_thread():
            library.set_num_threads(number)


@contextlib.contextmanager
def _any_thread() -> Iterator[None]:
    """Let this thread set the number, and any thread after it.

    Since version 3.8 threadpoolctl heeds only the first thread that sets a limit, and ignores the others without a
    word; but the last calculation to leave is seldom in the thread of the first that came.
    """
    release = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
    release(force=True)
    try:
        yield
    finally:
        release(force=True)


@functools.cache
def _libraries(kind: str) -> tuple[Any, ...]:
    """The libraries of a kind in the process; looking for them takes 10 ms, so it is done once."""
    return tuple(ThreadpoolController().select(user_api=kind).lib_controllers)


_blas = _BlasLimit()
