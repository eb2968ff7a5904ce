"""What a worker process does: run the tasks that come through its pipe, one after the other, until the pipe closes."""

from __future__ import annotations

import os
import pickle
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from attrs import define, field, frozen

from mbexec import NeedContext, run_chunk
from mbexec.processes import Inbox, Surroundings, catch_output, run_packed
from mbexec_loky.pipe import put

__all__ = ["FAILED", "NEED", "READY", "RETRY", "Begin", "serve"]

NEED, READY, RETRY, FAILED = "need", "ready", "retry", "failed"


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
    surroundings
        The parent's, which may have changed since the worker was started.
    """

    key: str
    blob: bytes | None
    temporary: str
    scratch: str | None
    idle_timeout: float
    surroundings: Surroundings


def serve(connection: Connection, mark: str) -> None:
    """Run what comes; return when nothing comes any more."""
    os.setsid()  # a group to be killed, and no terminal whose Ctrl-C would reach it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    inbox = Inbox(connection, mark)
    inbox.open()
    _Worker(inbox).run()
    inbox.close()


@define(eq=False)
class _Worker:
    inbox: Inbox
    _begin: Begin | None = field(default=None, init=False)

    def run(self) -> None:
        """Do what messages say, until none come."""
        with suppress(BrokenPipeError):
            while (message := self._next()) is not None:
                if isinstance(message, Begin):
                    self._be_ready(message)
                else:
                    self._run_tasks(message)

    def _next(self) -> Any:
        return self.inbox.take(self._begin.idle_timeout if self._begin is not None else None)

    def _be_ready(self, begin: Begin) -> None:
        self._begin = begin
        self.inbox.directories = [each for each in (begin.temporary, begin.scratch) if each is not None]
        try:
            begin.surroundings.take_over(begin.temporary, self.inbox.mark)
            catch_output(begin.temporary)
            answer = run_chunk(begin.key, [], begin.blob, scratch=begin.scratch)
        except Exception as error:
            self._send((FAILED, _portable(error)))
            return
        self._send((NEED,) if isinstance(answer, NeedContext) else (READY,))

    def _run_tasks(self, tasks: list[tuple[int, str, tuple[int, ...], tuple[int, ...]]]) -> None:
        assert self._begin is not None
        for task in tasks:  # each result leaves the process before the next task starts, which may kill it
            self._put(run_packed(self._begin.key, task, self._tell_of_retry))

    def _tell_of_retry(self) -> None:
        self._send((RETRY,))

    def _send(self, answer: tuple[Any, ...]) -> None:
        self._put(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))

    def _put(self, answer: bytes) -> None:
        put(self.inbox.connection.fileno(), answer)


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
