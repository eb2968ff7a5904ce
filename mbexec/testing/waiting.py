"""Waiting for what a plugin does, on a machine that others use as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

__all__ = ["until"]

_WINDOW = 0.5
_IDLE = 0.03  # of a core; a process that waits for a core among dozens of others gets more


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition comes true before this process and its children have been idle for some time on end.

    Time in which they compute does not count, so that nobody is blamed for a machine that is busy.

    Parameters
    ----------
    condition
        Asked again and again.
    seconds
        Of idleness.
    """
    idle, start, used = 0.0, time.monotonic(), _used()
    while not condition():
        if idle >= seconds:
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
