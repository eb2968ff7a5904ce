"""The process in which fragments run: a child of Parsl's worker, which may kill it and start the next."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from attrs import define

from mbexec import run_chunk, worker_versions
from mbexec.processes import MARK, Inbox, catch_output, run_packed

__all__ = ["DONE", "RETRY", "Runner", "scratch_of"]

DONE, RETRY = b"", b"retry"


def scratch_of(temporary: str, base: str | None) -> str | None:
    """A runner's own directory in the place that all share, if there is such a place on this node."""
    return os.path.join(base, os.path.basename(temporary)) if base and os.path.isdir(base) else None


@define(eq=False)
class Runner:
    """Does what messages say until the other end of its connection is closed.

    Attributes
    ----------
    connection
        To Parsl's worker.
    temporary
        A directory for temporary files, which goes with this process.
    """

    connection: Connection
    temporary: str

    def serve(self) -> None:
        """To be called in a process of its own."""
        os.setsid()  # a group to be killed, and no terminal whose Ctrl-C would reach it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        mark = os.environ[MARK] = os.path.basename(self.temporary)
        os.environ["TMPDIR"] = tempfile.tempdir = self.temporary
        catch_output(self.temporary)
        inbox = Inbox(self.connection, mark, [self.temporary])
        inbox.open()
        with suppress(BrokenPipeError):
            while (message := inbox.take()) is not None:
                if "blob" in message:
                    scratch = scratch_of(self.temporary, message["scratch"])
                    inbox.directories[1:] = [] if scratch is None else [scratch]
                    self.connection.send_bytes(pickle.dumps(_ready(message, scratch)))
                else:
                    self._run(message)
        inbox.close()

    def _run(self, message: dict[str, Any]) -> None:
        """Run tasks one after the other, and begin none when the time is up; each result goes out at once."""
        end = time.monotonic() + message["budget"]
        for place, task in enumerate(message["tasks"]):
            if place and time.monotonic() > end:
                break
            self.connection.send_bytes(run_packed(message["key"], task, self._tell_of_retry))
        self.connection.send_bytes(DONE)

    def _tell_of_retry(self) -> None:
        self.connection.send_bytes(RETRY)


def _ready(message: dict[str, Any], scratch: str | None) -> dict[str, str]:
    """Load a context, near to where the run is as far as this node has it; the versions of what is here."""
    sys.path += [entry for entry in message["path"] if entry not in sys.path]
    with suppress(OSError):
        os.chdir(message["directory"])
    if scratch is not None:
        os.makedirs(scratch, mode=0o700, exist_ok=True)
    with suppress(Exception):  # told below
        run_chunk(message["key"], [], message["blob"], scratch=scratch)
    return worker_versions(message["key"], message["blob"], message["distributions"])
