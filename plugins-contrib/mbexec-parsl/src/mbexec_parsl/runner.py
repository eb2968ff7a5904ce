"""The process in which fragments run: a child of Parsl's worker, which may kill it and start the next."""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from attrs import define, field

from mbexec import run_chunk, worker_versions
from mbexec.processes import MARK, catch_output, kill_tree, run_packed

__all__ = ["DONE", "RETRY", "Runner", "scratch_of"]

DONE, RETRY = b"", b"retry"
_GRACE = 1.0


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
    _scratch: str | None = field(default=None, init=False)
    _inbox: queue.SimpleQueue[Any] = field(factory=queue.SimpleQueue, init=False)
    _ended: threading.Event = field(factory=threading.Event, init=False)

    def serve(self) -> None:
        """To be called in a process of its own."""
        os.setsid()  # a group to be killed, and no terminal whose Ctrl-C would reach it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ[MARK] = os.path.basename(self.temporary)
        os.environ["TMPDIR"] = tempfile.tempdir = self.temporary
        catch_output(self.temporary)
        threading.Thread(target=self._listen, daemon=True).start()
        with suppress(BrokenPipeError):
            while (message := self._inbox.get()) is not None:
                if "blob" in message:
                    self.connection.send_bytes(pickle.dumps(self._ready(message)))
                else:
                    self._run(message)
        self._ended.set()
        self._tidy()

    def _listen(self) -> None:
        """Take messages, also while a fragment runs; when Parsl's worker is gone, so is what runs."""
        try:
            while True:
                self._inbox.put(pickle.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            self._inbox.put(None)
        if not self._ended.wait(_GRACE):
            self._leave()

    def _leave(self) -> None:
        """Die with everything that was started here: nobody is left to hear of it."""
        kill_tree(os.getpid(), os.environ[MARK], spare=True)
        self._tidy()
        os.killpg(os.getpid(), signal.SIGKILL)

    def _tidy(self) -> None:
        for directory in (self.temporary, self._scratch):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def _ready(self, message: dict[str, Any]) -> dict[str, str]:
        """Load a context, near to where the run is as far as this node has it; the versions of what is here."""
        sys.path += [entry for entry in message["path"] if entry not in sys.path]
        with suppress(OSError):
            os.chdir(message["directory"])
        self._scratch = scratch_of(self.temporary, message["scratch"])
        if self._scratch is not None:
            os.makedirs(self._scratch, mode=0o700, exist_ok=True)
        with suppress(Exception):  # told below
            run_chunk(message["key"], [], message["blob"], scratch=self._scratch)
        return worker_versions(message["key"], message["blob"], message["distributions"])

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
