"""What a worker process does: run the tasks that come through its pipe, one after the other, until the pipe closes."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from attrs import define, field, frozen

from mbexec import NeedContext, run_chunk
from mbexec.processes import MARK, catch_output, kill_tree, run_packed
from mbexec_loky.pipe import put

__all__ = ["FAILED", "NEED", "READY", "RETRY", "Begin", "serve"]

NEED, READY, RETRY, FAILED = "need", "ready", "retry", "failed"
_GRACE = 1.0


@frozen
class Begin:
    """The first message of a run: be as the parent is now, and have the programs of a context ready.

    Attributes
    ----------
    key, blob
        Of the context; the blob when the worker asked for it.
    temporary
        The worker's own directory for temporary files, the same for all its runs: libraries look when imported.
    scratch
        Its own directory in ``task.scratch_directory``, if that is set.
    idle_timeout
        Seconds to wait for a message.
    directory, environment, path
        The parent's working directory, ``os.environ`` and ``sys.path``.
    """

    key: str
    blob: bytes | None
    temporary: str
    scratch: str | None
    idle_timeout: float
    directory: str
    environment: dict[str, str]
    path: list[str]


def serve(connection: Connection, mark: str) -> None:
    """Run what comes; return when nothing comes any more."""
    os.setsid()  # a group to be killed, and no terminal whose Ctrl-C would reach it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    worker = _Worker(connection, mark)
    threading.Thread(target=worker.listen, name="mbexec-loky-listener", daemon=True).start()
    try:
        worker.run()
    finally:
        worker.ended.set()
        worker.clear()


@define(eq=False)
class _Worker:
    connection: Connection
    mark: str
    ended: threading.Event = field(factory=threading.Event, init=False)
    _inbox: SimpleQueue[Any] = field(factory=SimpleQueue, init=False)
    _begin: Begin | None = field(default=None, init=False)

    def listen(self) -> None:
        """Take messages from the pipe, also while a task runs; when the parent is gone, so is what runs."""
        try:
            while True:
                self._inbox.put(self.connection.recv())
        except (EOFError, OSError):
            self._inbox.put(None)
        if not self.ended.wait(_GRACE):
            self.leave()

    def leave(self) -> None:
        """Die with everything that was started here: nobody is left to hear of it."""
        kill_tree(os.getpid(), self.mark, spare=True)
        self.clear()
        os.killpg(os.getpid(), signal.SIGKILL)

    def clear(self) -> None:
        """Remove this worker's directories."""
        for directory in (self._begin.temporary, self._begin.scratch) if self._begin is not None else ():
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def run(self) -> None:
        """Do what messages say."""
        try:
            while (message := self._next()) is not None:
                if isinstance(message, Begin):
                    self._be_ready(message)
                else:
                    self._run_tasks(message)
        except BrokenPipeError:
            return

    def _next(self) -> Any:
        """The next message; None when it is time to leave."""
        try:
            return self._inbox.get(timeout=self._begin.idle_timeout if self._begin is not None else None)
        except Empty:
            return None

    def _be_ready(self, begin: Begin) -> None:
        self._begin = begin
        try:
            _take_after_parent(begin, self.mark)
            catch_output(begin.temporary)
            answer = run_chunk(begin.key, [], begin.blob, scratch=begin.scratch)
        except Exception as error:
            self._send((FAILED, _portable(error)))
            return
        self._send((NEED,) if isinstance(answer, NeedContext) else (READY,))

    def _run_tasks(self, tasks: list[tuple[int, str, tuple[int, ...], tuple[int, ...]]]) -> None:
        assert self._begin is not None
        for task in tasks:  # each result leaves the process before the next task starts, which may kill it
            put(self.connection.fileno(), run_packed(self._begin.key, task, self._tell_of_retry))

    def _tell_of_retry(self) -> None:
        self._send((RETRY,))

    def _send(self, answer: tuple[Any, ...]) -> None:
        put(self.connection.fileno(), pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))


def _take_after_parent(begin: Begin, mark: str) -> None:
    """Working directory, environment and import path may have changed since the worker was started."""
    os.chdir(begin.directory)
    given = {**begin.environment, MARK: mark, "TMPDIR": begin.temporary}
    for name in os.environ.keys() - given.keys():
        del os.environ[name]
    os.environ.update(given)
    sys.path[:] = begin.path
    tempfile.tempdir = begin.temporary


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
