"""The child processes of a Dask worker, in which fragments run: leased for a message, given back warm."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from typing import Any, ClassVar

from attrs import define, field

from mbexec.processes import Surroundings, kill_tree, last_words
from mbexec_dask.child import RETRY, Begin
from mbexec_dask.messages import Common

__all__ = ["Child", "LateError", "LostError", "forget", "give_back", "is_stopped", "lease", "stop"]

_START = "import sys; from mbexec_dask.child import main; main(int(sys.argv[1]), sys.argv[2])"
_REST = 0.002  # s
_LOOK = 0.5  # s


class LostError(Exception):
    """A child died, or was killed."""


class LateError(Exception):
    """A task takes too long."""


@define(eq=False)
class Child:
    """A process for fragments, as its Dask worker sees it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    folder: str
    scratch: str | None = None
    _run: str = ""
    _key: str = ""
    _said: Mapping[str, str] = field(factory=dict)
    _surroundings: Surroundings | None = None
    ready: bool = False
    told: list[Mapping[str, str]] = field(factory=list)
    idle_timeout: float = 0.0
    idle_since: float = 0.0

    @classmethod
    def start(cls) -> Child:
        """A new process, in a session of its own: the Ctrl-C of a terminal does not reach it."""
        folder = tempfile.mkdtemp(prefix="mbexec-")
        ours, theirs = Pipe()
        command = [sys.executable, "-P", "-c", _START, str(theirs.fileno()), folder]
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, env=_environment()
        )
        theirs.close()
        return cls(process, ours, folder)

    def begin(self, common: Common) -> None:
        """Have the child get ready for a run, unless it is."""
        now = Surroundings.here()
        if now == self._surroundings and common.key == self._key and self.ready:
            if self._run != common.run:
                self._run = common.run
                self.told.append(self._said)
            return
        there = common.scratch is not None and os.path.isdir(common.scratch)  # if not, programs that need it say so
        self.scratch = os.path.join(str(common.scratch), os.path.basename(self.folder)) if there else None
        self._run, self._key, self._surroundings = common.run, common.key, now
        self.ready, self.idle_timeout = False, common.idle_timeout
        self._send(Begin(common.key, common.blob, common.distributions, now, self.scratch))
        self._said, self.ready = pickle.loads(self._receive())
        self.told.append(self._said)

    def results(self, common: Common, tasks: deque[Any], done: list[bytes]) -> None:
        """Run tasks; those that are done move from `tasks` to `done`, also if this raises."""
        self._send(list(tasks))
        start = since = time.monotonic()
        count = len(tasks)
        while tasks:
            timeout = common.limit(tasks[0])
            if not self.connection.poll(None if timeout is None else max(0.0, since + timeout - time.monotonic())):
                raise LateError
            while tasks and self.connection.poll(0):
                if (data := self._receive()) != RETRY:
                    done.append(data)
                    tasks.popleft()
                since = time.monotonic()
            if tasks and since - start < _REST * (count - len(tasks)):  # short tasks: don't wake up for each
                time.sleep(_REST)

    def _send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError as error:
            raise LostError from error

    def _receive(self) -> bytes:
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise LostError from error

    def kill(self) -> None:
        """Kill it with all that it started."""
        kill_tree(self.process.pid, os.path.basename(self.folder))

    def end(self) -> tuple[int, str]:
        """Kill it with all that it started and remove its files; its exit code, and what it had printed last."""
        if self.connection.closed:
            return 0, ""
        self.connection.close()
        self.kill()
        code = self.process.wait()
        said = last_words(self.folder)
        for directory in (self.folder, self.scratch):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
        return code, said


def _environment() -> dict[str, str]:
    """The environment, with the path on which this package was found: the child must find it, too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}


class _Children:
    """The children of this Dask worker."""

    lock = threading.Lock()
    idle: ClassVar[list[Child]] = []
    busy: ClassVar[dict[Child, str]] = {}
    stopped: ClassVar[deque[str]] = deque(maxlen=1000)
    watch: threading.Thread | None = None


def lease(run: str) -> Child:
    """A child for a message: one that waits, or a new one."""
    with _Children.lock:
        while _Children.idle:
            child = _Children.idle.pop()
            if child.process.poll() is None:
                _Children.busy[child] = run
                return child
            child.end()
    child = Child.start()
    with _Children.lock:
        _Children.busy[child] = run
        stopped = run in _Children.stopped
    if stopped:
        child.kill()
    return child


def forget(child: Child) -> None:
    """Of a child that has ended, or is about to."""
    with _Children.lock:
        del _Children.busy[child]


def give_back(child: Child) -> None:
    """A child that has done what it was leased for."""
    with _Children.lock:
        del _Children.busy[child]
        child.told.clear()
        child.idle_since = time.monotonic()
        _Children.idle.append(child)
        if _Children.watch is None:
            _Children.watch = threading.Thread(target=_end_idle_ones, name="mbexec-dask-idle", daemon=True)
            _Children.watch.start()


def _end_idle_ones() -> None:
    """End children that have waited too long, until none waits any more."""
    while True:
        time.sleep(_LOOK)
        now = time.monotonic()
        with _Children.lock:
            ending = [child for child in _Children.idle if now - child.idle_since > child.idle_timeout]
            _Children.idle[:] = [child for child in _Children.idle if child not in ending]
            left = bool(_Children.idle)
            if not left:
                _Children.watch = None
        for child in ending:
            child.end()
        if not left:
            return


def stop(run: str) -> None:
    """Kill what runs of a level; what comes of it later does not begin."""
    with _Children.lock:
        _Children.stopped.append(run)
        running = [child for child, name in _Children.busy.items() if name == run]
    for child in running:
        child.kill()


def is_stopped(run: str) -> bool:
    """Whether nothing of a level is to run any more."""
    return run in _Children.stopped
