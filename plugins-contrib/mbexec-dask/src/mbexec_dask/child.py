"""A process that a Dask worker starts to run fragments in: one after the other, until the pipe to the worker closes."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from attrs import define, field, frozen

from mbexec import NeedContext, run_chunk, worker_versions
from mbexec.processes import MARK, catch_output, kill_tree, run_packed

__all__ = ["RETRY", "Begin", "Surroundings", "main"]

RETRY = b""
_GRACE = 1.0  # s


@frozen
class Surroundings:
    """What a child takes over from its Dask worker, where it may have changed since the child was started."""

    directory: str
    environment: dict[str, str]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        directory = os.getcwd()
        return cls(directory, dict(os.environ), tuple(entry or directory for entry in sys.path))

    def take_over(self, temporary: str) -> None:
        """Be as the worker is, but for the directory of temporary files."""
        os.chdir(self.directory)
        given = {**self.environment, MARK: os.path.basename(temporary), "TMPDIR": temporary}
        for name in os.environ.keys() - given.keys():
            del os.environ[name]
        os.environ.update(given)
        sys.path[:] = self.path
        tempfile.tempdir = temporary


@frozen
class Begin:
    """The message before the first tasks of a run; the answer is what the child's versions are.

    Attributes
    ----------
    key, blob
        Of the context.
    distributions
        Whose versions count.
    surroundings
        To take over.
    scratch
        The child's own directory in ``task.scratch_directory``, if there is one.
    """

    key: str
    blob: bytes
    distributions: tuple[str, ...]
    surroundings: Surroundings
    scratch: str | None


def main(descriptor: int, folder: str) -> None:
    """Serve the worker at the other end of the pipe; `folder` is for temporary files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    catch_output(folder)
    child = _Child(connection, folder)
    threading.Thread(target=child.listen, name="mbexec-dask-listener", daemon=True).start()
    try:
        child.serve()
    finally:
        child.ended.set()
        child.clear()


@define(eq=False)
class _Child:
    connection: Connection
    folder: str
    ended: threading.Event = field(factory=threading.Event, init=False)
    _inbox: SimpleQueue[Any] = field(factory=SimpleQueue, init=False)
    _begin: Begin | None = field(default=None, init=False)

    def listen(self) -> None:
        """Take messages from the pipe, also while a task runs; when the worker is gone, end what runs."""
        with suppress(EOFError, OSError):
            while True:
                self._inbox.put(self.connection.recv())
        self._inbox.put(None)
        if not self.ended.wait(_GRACE):
            kill_tree(os.getpid(), os.path.basename(self.folder), spare=True)
            self.clear()
            os.killpg(os.getpid(), signal.SIGKILL)

    def clear(self) -> None:
        """Remove this child's directories."""
        for directory in (self.folder, self._begin.scratch if self._begin is not None else None):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def serve(self) -> None:
        """Do what messages say, until there are no more."""
        with suppress(BrokenPipeError, ConnectionResetError):
            while (message := self._inbox.get()) is not None:
                if isinstance(message, Begin):
                    self._get_ready(message)
                else:
                    self._run(message)

    def _get_ready(self, begin: Begin) -> None:
        self._begin = begin
        begin.surroundings.take_over(self.folder)
        if begin.scratch is not None:
            os.makedirs(begin.scratch, exist_ok=True)
            run_chunk(begin.key, [], begin.blob, scratch=begin.scratch)
        told = worker_versions(begin.key, begin.blob, begin.distributions)
        ready = not isinstance(run_chunk(begin.key, []), NeedContext)
        self.connection.send_bytes(pickle.dumps((told, ready), pickle.HIGHEST_PROTOCOL))

    def _run(self, tasks: list[tuple[Any, ...]]) -> None:
        assert self._begin is not None
        for task in tasks:  # each result leaves the process before the next task starts, which may kill it
            self.connection.send_bytes(run_packed(self._begin.key, task, self._tell_of_retry))

    def _tell_of_retry(self) -> None:
        self.connection.send_bytes(RETRY)
