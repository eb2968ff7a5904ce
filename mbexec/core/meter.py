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
_REST = 0.02  # s for which a peak of memory is not asked for again
_WHO: int | None = getattr(resource, "RUSAGE_THREAD", None)
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes


def _most(who: int = resource.RUSAGE_SELF) -> int:
    return _UNIT * resource.getrusage(who).ru_maxrss


_AT_FIRST = _most()


def memory() -> int:
    """The most that this process has held so far, bytes."""
    most = _most()
    if most > _AT_FIRST:
        return most
    try:  # Linux lets a process begin with what the one had held that started it
        told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return most
    return 1024 * int(told[1]) if told else most


class _Peak:
    """The most that this process and its child processes have held, as it was not long ago."""

    due = 0.0
    held = 0

    @classmethod
    def read(cls, now: float) -> int:
        """Ask only now and then: short loads would take as long to ask as to run."""
        if not 0 <= cls.due - now <= _REST:
            cls.held, cls.due = max(memory(), _most(resource.RUSAGE_CHILDREN)), now + _REST
        return cls.held


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
        """What the file holds now."""
        try:
            return os.pread(self._file, 256, 0) if self._file >= 0 else None
        except OSError:
            return None


class _Thread(threading.local):
    """Its processor time, and how long it was ready and waited for a processor, as the kernel counts."""

    def __init__(self) -> None:
        self._counter = _Counter("/proc/thread-self/schedstat")
        self._delay: float | None = None
        self._switches = -1

    def read(self) -> tuple[float, float | None]:
        """Both, s; for the second, None where the kernel does not tell.

        It takes long to find out, and is not asked again while the thread has not left its processor.
        """
        if _WHO is None:
            return time.thread_time(), None
        usage = resource.getrusage(_WHO)
        switches = usage.ru_nvcsw + usage.ru_nivcsw
        if switches != self._switches:
            told = self._counter.read()
            self._delay = int(told.split(None, 2)[1]) * 1e-9 if told else None
            self._switches = switches
        return usage.ru_utime + usage.ru_stime, self._delay


def _stalled() -> float | None:
    """For how long some process of this machine has waited for a processor, s; None where the kernel does not tell."""
    told = _pressure.read()
    found = re.match(rb"some .*total=(\d+)", told) if told else None
    return int(found[1]) * 1e-6 if found else None


class _Children:
    """Processor time of ended child processes, given in equal parts to all that are measured just then."""

    given = 0.0
    expected = True  # it takes time to find out about them, and more what they wait for: not where none has ended yet

    @classmethod
    def share_out(cls, running: set[Meter]) -> None:
        """Give out what has come since the last time."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        now = usage.ru_utime + usage.ru_stime
        for load in running:
            load.children += (now - cls.given) / len(running)
        cls.given = now


def _crowding() -> float:
    """Processors for each one that this process may use: the kernel tells of waiting as a mean over all of them."""
    return (os.cpu_count() or 1) / len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1.0


_lock = threading.Lock()
_thread = _Thread()
_pressure = _Counter("/proc/pressure/cpu")
_running: set[Meter] = set()


def _forget() -> None:
    """In a forked child: what was measured, the thread and the children are its parent's."""
    global _lock, _thread
    _lock, _thread = threading.Lock(), _Thread()
    _running.clear()
    _Peak.due = _Children.given = 0.0
    _Children.expected = True


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
        Processor time, s: of this thread; of child processes that ended meanwhile, in equal parts with all else that
        was measured in this process then; of other threads of this process, if nothing else was measured in it.
    lost
        How much sooner, at most, it would have ended alone, s: what it waited for a processor, what it may have
        waited for others that were measured in this process, and its child processes for a processor.
    children
        Of the processor time, what child processes took.
    peak_memory
        The most that this process, or a child process of it that has ended, has held so far, bytes; as it was some
        hundredths of a second ago, at least.
    """

    started: float = field(default=0.0, init=False)
    ended: float = field(default=0.0, init=False)
    cpu_time: float = field(default=0.0, init=False)
    lost: float = field(default=0.0, init=False)
    peak_memory: int = field(default=0, init=False)
    children: float = field(default=0.0, init=False)
    _shared: bool = field(default=False, init=False)
    _before: tuple[float, float | None, float, float | None] = field(init=False)

    def __enter__(self) -> Self:
        """Begin."""
        with _lock:
            self._shared = bool(_running)
            if _Children.expected:
                _Children.share_out(_running)
            for other in _running:
                other._shared = True
            _running.add(self)
        stalled = _stalled() if _Children.expected else None
        self._before = *_thread.read(), time.process_time(), stalled
        self.started = time.time()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and reckon."""
        self.ended = time.time()
        own, delay = _thread.read()
        own -= self._before[0]
        others = max(0.0, time.process_time() - self._before[2] - own)
        with _lock:
            _Children.share_out(_running)
            _running.discard(self)
        _Children.expected = _Children.given > 0
        children = self.children
        self.cpu_time = own + children + (0.0 if self._shared else others)
        self.lost = self._lost(own, delay, others, children)
        self.peak_memory = _Peak.read(self.ended)

    def _lost(self, own: float, after: float | None, others: float, children: float) -> float:
        """`own`, `others`, `children`: processor time of this thread, of this process's others, of ended children."""
        wall = self.ended - self.started
        _, before, _, stalled = self._before
        if before is None or after is None:  # all but processor time may have been lost
            return max(0.0, wall - self.cpu_time)
        delay = min(after - before, wall)
        waited = max(0.0, wall - own - delay)
        if children:
            now = _stalled()
            waited = max(0.0, waited - children)
            return delay + (waited if now is None or stalled is None else min(waited, (now - stalled) * _crowding()))
        if not self._shared:
            return delay
        # It may have waited for others of its process: their processor time, for which they had to wait as it had.
        stretch = 1 + delay / own if own > _BUSY * wall else 1.0
        return delay + min(waited, others * stretch)
