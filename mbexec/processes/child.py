"""What a child process does: what it is told, what it takes over, and what is printed and sent there."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from attrs import define, evolve, field, frozen

from mbexec.core.types import Task, TaskResult
from mbexec.core.work import NeedContext, run_chunk
from mbexec.processes.ends import MARK, OUTPUT, kill_tree

__all__ = ["Inbox", "Surroundings", "catch_output", "packed", "run_packed", "take_output"]

_MOST = 65_536
_BY_LINE = 1  # the C library's _IOLBF
_GRACE = 1.0  # s
_libc = ctypes.CDLL(None)


@frozen
class Surroundings:
    """What a child takes over from the process that it runs fragments for.

    Attributes
    ----------
    directory
        The working directory.
    environment
        ``os.environ``.
    path
        ``sys.path``.
    """

    directory: str
    environment: dict[str, str]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process as they are now."""
        directory = os.getcwd()
        return cls(directory, dict(os.environ), tuple(entry or directory for entry in sys.path))

    def take_over(self, temporary: str, mark: str) -> None:
        """Make them those of this process.

        Parameters
        ----------
        temporary
            The child's own directory for temporary files.
        mark
            Value of the variable :data:`MARK`.
        """
        os.chdir(self.directory)
        given = {**self.environment, MARK: mark, "TMPDIR": temporary}
        for name in os.environ.keys() - given.keys():
            del os.environ[name]
        os.environ.update(given)
        sys.path[:] = self.path
        tempfile.tempdir = temporary


@define(eq=False)
class Inbox:
    """What a child is told: messages from a pipe, taken also while a fragment runs.

    When there is nobody at the other end any more, the child has a second to come to an end. After that it is killed,
    with all that it started.

    Attributes
    ----------
    connection
        The child's end of the pipe.
    mark
        Value of the variable :data:`MARK` in the environment of what the child starts.
    directories
        The child's own, which go with it.
    """

    connection: Connection
    mark: str
    directories: list[str] = field(factory=list)
    _messages: SimpleQueue[Any] = field(factory=SimpleQueue, init=False)
    _closed: threading.Event = field(factory=threading.Event, init=False)

    def open(self) -> None:
        """Listen from now on."""
        threading.Thread(target=self._listen, name="mbexec-inbox", daemon=True).start()

    def take(self, timeout: float | None = None) -> Any:
        """The next message; None if there will be none, or if none came for `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except Empty:
            return None

    def close(self) -> None:
        """Remove the child's directories: it comes to its end by itself."""
        self._closed.set()
        self._remove()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._messages.put(self.connection.recv())
        self._messages.put(None)
        if not self._closed.wait(_GRACE):
            kill_tree(os.getpid(), self.mark, spare=True)
            self._remove()
            os.killpg(os.getpid(), signal.SIGKILL)

    def _remove(self) -> None:
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)


def run_packed(key: str, task: tuple[Any, ...], on_retry: Callable[[], None]) -> bytes:
    """Run a task of a context that this process has.

    Parameters
    ----------
    key
        Of the context.
    task
        Values for :class:`mbexec.Task`.
    on_retry
        Called before another attempt.

    Returns
    -------
    bytes
        The result as of :func:`packed`, with what :func:`take_output` gives.
    """
    answer = run_chunk(key, [Task(*task)], on_retry=on_retry)
    assert not isinstance(answer, NeedContext)
    (result,) = answer
    said = take_output()
    return packed(evolve(result, output=said) if said else result)


def packed(result: TaskResult) -> bytes:
    """A result's values without their names; ``TaskResult(*pickle.loads(...))`` is the same again."""
    return pickle.dumps(result.__reduce__()[1], pickle.HIGHEST_PROTOCOL)


def catch_output(directory: str) -> None:
    """From now on, standard output and standard error go to a file there, child processes' included."""
    caught = os.open(os.path.join(directory, OUTPUT), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    _flush()
    for descriptor in (1, 2):
        os.dup2(caught, descriptor)
    os.close(caught)
    # Line by line, or the last words of a process that is killed would be lost in buffers.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _BY_LINE, 0)


def take_output() -> str:
    """What has been printed since the last time; of very much, the end."""
    _flush()
    size = os.fstat(1).st_size
    if size == 0:
        return ""
    text = os.pread(1, _MOST, max(0, size - _MOST)).decode(errors="replace")
    os.ftruncate(1, 0)
    return text if size <= _MOST else f"...{text}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _libc.fflush(None)
