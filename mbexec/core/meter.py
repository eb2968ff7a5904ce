"""What a fragment costs where it runs: processor time, what it lost to its neighbours, memory."""

from __future__ import annotations

import os
import re
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Self

from attrs import define, field

__all__ = ["Meter", "memory"]

_BUSY = 0.01  # the share of its time that a thread computes, from which on it knows how long one waits for that
_REST = 0.02  # s
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
_DELAY = re.compile(rb"\d+ (\d+)")  # ns that a thread was ready and waited for a processor
_STALL = re.compile(rb"some .*total=(\d+)")  # us in which some process of this machine waited for one


def _most(who: int = resource.RUSAGE_SELF) -> int:
    return _UNIT * resource.getrusage(who).ru_maxrss


class _Peak:
    """The most that this process has held. Linux lets it begin with what the process held that started this one."""

    at_first = _most()
    due = 0.0
    held = 0

    @classmethod
    def read(cls) -> int:
        most = _most()
        if most > cls.at_first:
            return most
        if (now := time.monotonic()) >= cls.due:  # it takes long, and does not change as quickly
            cls.held, cls.due = cls._held(most), now + _REST
        return cls.held

    @staticmethod
    def _held(most: int) -> int:
        try:
            told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        except OSError:
            return most
        return 1024 * int(told[1]) if told else most


def memory() -> int:
    """The most that this process has held so far, bytes; what it was some hundredths of a second ago, at least."""
    return _Peak.read()


class _Counter:
    """A file of the kernel's that is read again and again; None where there is none."""

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def read(self) -> bytes | None:
        try:
            return os.pread(self._file, 256, 0) if self._file >= 0 else None
        except OSError:
            return None


class _Files(threading.local):
    """Those of this thread."""

    def __init__(self) -> None:
        self.delays = _Counter("/proc/thread-self/schedstat")
        self.stalls = _Counter("/proc/pressure/cpu")


def _seconds(pattern: re.Pattern[bytes], told: bytes | None, unit: float) -> float | None:
    found = pattern.search(told) if told else None
    return int(found[1]) * unit if found else None


class _Children:
    """Processor time of ended child processes, given in equal parts to all that are measured just then."""

    given = 0.0

    @classmethod
    def share_out(cls, running: set[Meter]) -> None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        now = usage.ru_utime + usage.ru_stime
        for load in running:
            load.children += (now - cls.given) / len(running)
        cls.given = now


def _crowding() -> float:
    """Processors for each one that this process may use: the kernel tells of waiting as a mean over all of them."""
    return (os.cpu_count() or 1) / len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1.0


_lock = threading.Lock()
_files = _Files()
_running: set[Meter] = set()


def _forget() -> None:
    """In a forked child: what was measured, and the threads whose files these are, are its parent's."""
    global _lock, _files
    _lock, _files = threading.Lock(), _Files()
    _running.clear()
    _Peak.due = 0.0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@define(eq=False)
class Meter:
    """Measures what runs within it, in this thread.

    Attributes
    ----------
    started, ended
        Seconds since the epoch.
    cpu_time
        Processor time, s: of this thread; of child processes, the ones that were waited for since another measurement
        in this process ended; of other threads of this process, if nothing else was measured in it meanwhile.
    lost
        How much sooner, at most, it would have ended alone, s: what it waited for a processor, what it may have
        waited for others that were measured in this process, and its child processes for a processor.
    children
        Of the processor time, what child processes took.
    peak_memory
        The most that this process, or a child process of it that has ended, has held so far, bytes.
    """

    started: float = field(factory=time.time, init=False)
    ended: float = field(default=0.0, init=False)
    cpu_time: float = field(default=0.0, init=False)
    lost: float = field(default=0.0, init=False)
    peak_memory: int = field(default=0, init=False)
    children: float = field(default=0.0, init=False)
    _shared: bool = field(default=False, init=False)
    _times: tuple[float, float] = field(init=False)
    _counters: tuple[bytes | None, bytes | None] = field(init=False)

    def __enter__(self) -> Self:
        with _lock:
            self._shared = bool(_running)
            _Children.share_out(_running)
            for other in _running:
                other._shared = True
            _running.add(self)
        # Where no child process has ended yet, none is expected: to find out what they wait for takes time.
        self._counters = _files.delays.read(), _files.stalls.read() if _Children.given else None
        self._times = time.thread_time(), time.process_time()
        self.started = time.time()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = time.time()
        own = time.thread_time() - self._times[0]
        others = max(0.0, time.process_time() - self._times[1] - own)
        with _lock:
            _Children.share_out(_running)
            _running.discard(self)
        children = self.children
        self.cpu_time = own + children + (0.0 if self._shared else others)
        self.lost = self._lost(own, others, children)
        self.peak_memory = max(memory(), _most(resource.RUSAGE_CHILDREN))

    def _lost(self, own: float, others: float, children: float) -> float:
        """`own`, `others`, `children`: processor time of this thread, of this process's others, of ended children."""
        wall = self.ended - self.started
        delay = self._since(_DELAY, 1e-9, 0)
        if delay is None:  # all but processor time may have been lost
            return max(0.0, wall - self.cpu_time)
        waited = max(0.0, wall - own - delay)
        if children:
            stall = self._since(_STALL, 1e-6, 1)
            waited = max(0.0, waited - children)
            return delay + (waited if stall is None else min(waited, stall * _crowding()))
        if not self._shared:
            return delay
        # It may have waited for others of its process: their processor time, for which they had to wait as it had.
        stretch = 1 + delay / own if own > _BUSY * wall else 1.0
        return delay + min(waited, others * stretch)

    def _since(self, pattern: re.Pattern[bytes], unit: float, place: int) -> float | None:
        """By how many seconds a counter of the kernel's has grown; None where there is none."""
        before = _seconds(pattern, self._counters[place], unit)
        after = _seconds(pattern, (_files.delays, _files.stalls)[place].read(), unit)
        return None if before is None or after is None else after - before
