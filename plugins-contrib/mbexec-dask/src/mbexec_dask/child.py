"""A process that a Dask worker starts to run fragments in: one after the other, until the pipe to the worker closes."""

from __future__ import annotations

import os
import pickle
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from attrs import define, field, frozen

from mbexec import NeedContext, run_chunk, worker_versions
from mbexec.processes import Inbox, Surroundings, catch_output, run_packed

__all__ = ["RETRY", "Begin", "main"]

RETRY = b""


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
    catch_output(folder)
    inbox = Inbox(Connection(descriptor), os.path.basename(folder), [folder])
    inbox.open()
    _Child(inbox, folder).serve()
    inbox.close()


@define(eq=False)
class _Child:
    inbox: Inbox
    folder: str
    _key: str = field(default="", init=False)

    def serve(self) -> None:
        """Do what messages say, until there are no more."""
        with suppress(BrokenPipeError, ConnectionResetError):
            while (message := self.inbox.take()) is not None:
                if isinstance(message, Begin):
                    self._get_ready(message)
                else:
                    self._run(message)

    def _get_ready(self, begin: Begin) -> None:
        self._key = begin.key
        begin.surroundings.take_over(self.folder, self.inbox.mark)
        self.inbox.directories[1:] = [] if begin.scratch is None else [begin.scratch]
        if begin.scratch is not None:
            os.makedirs(begin.scratch, exist_ok=True)
            run_chunk(begin.key, [], begin.blob, scratch=begin.scratch)
        told = worker_versions(begin.key, begin.blob, begin.distributions)
        ready = not isinstance(run_chunk(begin.key, []), NeedContext)
        self._send(pickle.dumps((told, ready), pickle.HIGHEST_PROTOCOL))

    def _run(self, tasks: list[tuple[Any, ...]]) -> None:
        for task in tasks:  # each result leaves the process before the next task starts, which may kill it
            self._send(run_packed(self._key, task, self._tell_of_retry))

    def _tell_of_retry(self) -> None:
        self._send(RETRY)

    def _send(self, answer: bytes) -> None:
        self.inbox.connection.send_bytes(answer)
