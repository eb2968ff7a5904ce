"""Waiting for what a plugin does, on a machine that others use as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["beside", "opened_when_idle", "until"]

_WINDOW = 0.5
_IDLE = 0.03  # of a core; a process that waits for a core among dozens of others gets more
_AT_MOST = 10  # times as long; threads that watch over a cluster may never be idle


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition comes true before this process and its children have been idle for some time on end.

    Time in which they compute does not count, so that nobody is blamed for a machine that is busy, for up to ten times
    as long.

    Parameters
    ----------
    condition
        Asked again and again.
    seconds
        Of idleness.
    """
    idle, start, used = 0.0, time.monotonic(), _used()
    end = start + _AT_MOST * seconds
    while not condition():
        if idle >= seconds or time.monotonic() > end:
            return False
        time.sleep(0.01)
        if (passed := time.monotonic() - start) > min(_WINDOW, seconds):
            start, before, used = time.monotonic(), used, _used()
            idle = idle + passed if used - before < _IDLE * passed + 0.01 else 0.0  # s: what a clock tick may be
    return True


def _used() -> float:
    """Seconds of processor time that this process, but for this thread, and its children have taken."""
    total = -time.thread_time()
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and those of children that have ended
    return total


@contextmanager
def beside(do: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread of its own during the block; the event that it is given says that the block is left."""
    left = threading.Event()
    thread = threading.Thread(target=do, args=(left,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@contextmanager
def opened_when_idle(gate: Path, seconds: float) -> Iterator[None]:
    """Let toys go when nothing has been done for some time, and at the end of the block at the latest."""

    def _opening(left: threading.Event) -> None:
        until(left.is_set, seconds)
        gate.unlink(missing_ok=True)

    with beside(_opening):
        yield
