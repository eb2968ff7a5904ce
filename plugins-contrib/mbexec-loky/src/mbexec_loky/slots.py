"""Worker processes as the parent sees them: leased to a run, given back warm."""

from __future__ import annotations

import atexit
import os
import pickle
import secrets
import shutil
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from select import POLLIN, poll
from typing import Any

import psutil
from attrs import define, field

from mbexec import ConfigError, Work
from mbexec.processes import Surroundings, kill_tree, last_words
from mbexec_loky.nursery import Nursery
from mbexec_loky.pipe import Answers
from mbexec_loky.worker import Begin

__all__ = ["Slot", "Traffic", "discard", "give_back", "lease", "prepare"]

_MOMENT = 1000  # ms


@define(eq=False)
class Traffic:
    """Bytes sent to workers, and received from them."""

    sent: int = 0
    received: int = 0


@define(eq=False)
class Slot:
    """A worker process and the pipe to it.

    Attributes
    ----------
    pid
        Of the process, which leads a group of its own.
    ran
        How many tasks it has run in its life.
    traffic
        What goes through the pipe is counted there.
    """

    pid: int
    ran: int = field(default=0, init=False)
    traffic: Traffic = field(factory=Traffic, init=False)
    connection: Connection
    watch: int  # a file descriptor that can be read from when the process has ended
    _mark: str
    _temporary: str
    _scratch: str | None = field(default=None, init=False)
    _answers: Answers = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._answers = Answers(self.connection.fileno())

    def begin(self, work: Work, idle_timeout: float, blob: bytes | None = None) -> None:
        """Tell the worker of a run; it answers NEED, READY or FAILED."""
        base = os.path.abspath(work.context.task.scratch_directory or "")
        there = work.context.task.scratch_directory and os.path.isdir(base)  # if not, programs that need it say so
        self._scratch = os.path.join(base, f"mbexec-{self._mark}") if there else None
        for directory in self._directories():
            _make(directory)
        self.send(Begin(work.key, blob, self._temporary, self._scratch, idle_timeout, Surroundings.here()))

    def send(self, message: Any) -> None:
        """Send a message; to a dead worker, it is lost."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.traffic.sent += len(data)
        with suppress(OSError):
            self.connection.send_bytes(data)

    def receive(self) -> list[tuple[Any, ...]] | None:
        """Answers that have come, after waiting if there are none; None if there will be no more."""
        came = self._answers.take()
        if came is None:
            return None
        answers, size = came
        self.traffic.received += size
        return answers

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return not _readable(self.watch, 0)

    def has_answered(self) -> bool:
        """Whether an answer waits to be received."""
        return _readable(self.connection.fileno(), 0)

    def wait(self) -> None:
        """Wait until a process that is about to end has ended, for a moment."""
        _readable(self.watch, _MOMENT)

    def memory(self) -> float:
        """MiB that the process holds."""
        try:
            used: int = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return 0.0
        return used / 2**20

    def kill(self) -> None:
        """Kill the worker with all that it started, and remove its files. Answers it has sent can still be read."""
        kill_tree(self.pid, self._mark)
        self.wait()
        self.tidy()

    def last_words(self) -> str:
        """The end of what was printed in it since its last result."""
        return last_words(self._temporary)

    def tidy(self) -> None:
        """Remove the worker's files."""
        for directory in self._directories():
            shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> int | None:
        """Let go of the worker, which ends if it lives; its exit code if it is dead."""
        code = None if self.lives else _nursery.exit_code(self.pid)
        self.connection.close()
        os.close(self.watch)
        return code

    def _directories(self) -> list[str]:
        return [self._temporary, self._scratch] if self._scratch else [self._temporary]


def _readable(descriptor: int, patience: int) -> bool:
    watched = poll()
    watched.register(descriptor, POLLIN)
    return bool(watched.poll(patience))


def _make(directory: str) -> None:
    try:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        parent = os.path.dirname(directory)
        raise ConfigError(
            f"No scratch directory can be made in {parent!r}: {error.strerror}. "
            "Set task.scratch_directory to a directory that can be written to."
        ) from error


_nursery = Nursery()
_lock = threading.RLock()
_idle: list[Slot] = []
_leased: set[Slot] = set()


def prepare() -> None:
    """Start what takes time in starting a worker; returns at once."""
    _nursery.start()


def lease() -> Slot:
    """A worker for one run: a warm one if there is one, else a new one."""
    with _lock:
        while _idle:
            slot = _idle.pop()
            _leased.add(slot)
            if slot.lives:
                return slot
            discard(slot)
        slot = _new()
        _leased.add(slot)
        return slot


def _new() -> Slot:
    mark = secrets.token_hex(8)
    ours, theirs = Pipe()
    try:
        pid = _nursery.fork(theirs, mark)
        watch = os.pidfd_open(pid)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Slot(pid, ours, watch, mark, os.path.join(tempfile.gettempdir(), f"mbexec-{mark}"))


def give_back(slot: Slot) -> None:
    """Keep a worker that has nothing to do for the next run; its files go."""
    slot.tidy()
    with _lock:
        _leased.discard(slot)
        _idle.append(slot)


def discard(slot: Slot) -> int | None:
    """Let go of a worker; its exit code if it is dead."""
    slot.tidy()
    with _lock:
        _leased.discard(slot)
    return slot.close()


def _end() -> None:
    """Idle workers leave by themselves when their pipe closes; nobody waits for busy ones any more."""
    with _lock:
        for slot in list(_leased):
            slot.kill()
            discard(slot)
        while _idle:
            discard(_idle.pop())
    _nursery.stop()


def _forget() -> None:
    """In a forked child: the workers are its parent's."""
    global _lock, _nursery
    for slot in (*_idle, *_leased):
        slot.connection.close()
        os.close(slot.watch)
    _idle.clear()
    _leased.clear()
    _nursery.forget()
    _lock, _nursery = threading.RLock(), Nursery()


atexit.register(_end)
os.register_at_fork(after_in_child=_forget)
