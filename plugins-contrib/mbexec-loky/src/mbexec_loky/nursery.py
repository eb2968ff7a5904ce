"""One process that has imported what workers need, and from which they are forked in milliseconds.

loky starts it: a fresh interpreter, whatever start method and main module the parent has. It never runs a task.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import warnings
from contextlib import suppress
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np
from attrs import define, field
from loky.backend import get_context as get_loky_context

from mbexec import ExecutorError
from mbexec_loky.worker import serve

__all__ = ["Nursery", "tend"]

# What takes long to import and starts no thread. It is imported while the parent reads its input.
_COSTLY = ("qcelemental.models.v2", "qcengine")
_ATTEMPTS = 3
_PATIENCE = 5.0  # s
_TICK = 5.0  # s
_LONGEST_IDLE = 60.0  # s
_LARGE = 2**24  # bytes


def tend(connection: Connection) -> None:
    """Fork workers, and tell how they ended, until the parent or the work is gone. What the process runs."""
    os.setsid()  # Ctrl-C is for the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in _COSTLY:
        with suppress(Exception):  # QCEngine is not there, or has a bad qcengine.yaml, which the parent tells of
            importlib.import_module(module)
    _keep_memory()
    with suppress(EOFError, ConnectionError):  # the parent may be gone at any moment, also before it has its answer
        _answer(connection)


def _answer(connection: Connection) -> None:
    workers: dict[int, BaseProcess] = {}
    while _is_wanted(connection):
        try:
            request, argument = connection.recv()
        except OSError:  # in the middle of a request
            return
        if request == "fork":
            connection.send(_fork(connection, argument, workers))
        else:
            worker = workers.pop(argument, None)
            if worker is not None:
                worker.join()
            connection.send(None if worker is None else worker.exitcode)


def _keep_memory() -> None:
    """Let workers keep freed memory for the next array instead of asking the system anew, which may double their time.

    From the largest block that was freed, the C library learns up to which size it had better keep them.
    """
    np.empty(_LARGE, np.uint8)


def _is_wanted(connection: Connection) -> bool:
    """Wait for a request; False if none came for long, and no worker lives."""
    idle = 0.0
    while not connection.poll(_TICK):
        idle = 0.0 if active_children() else idle + _TICK
        if idle >= _LONGEST_IDLE:
            return False
    return True


def _fork(connection: Connection, mark: str, workers: dict[int, BaseProcess]) -> int | None:
    pipe = Connection(recv_handle(connection))
    worker = get_context("fork").Process(target=_begin, args=(connection, pipe, mark), name=f"mbexec-loky-{mark}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads here are numpy's, which knows of forks
        worker.start()
    pipe.close()
    assert worker.pid is not None
    workers[worker.pid] = worker
    return worker.pid


def _begin(nursery: Connection, pipe: Connection, mark: str) -> None:
    nursery.close()
    serve(pipe, mark)


@define(eq=False)
class Nursery:
    """The parent's side: starts the process when it is first needed, and again if it died."""

    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _process: Any = field(default=None, init=False)
    _connection: Connection | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process, unless it runs; returns at once."""
        with self._lock:
            if self._process is not None and self._process.is_alive():
                return
            self._connection, theirs = Pipe()
            self._process = get_loky_context("loky").Process(target=tend, args=(theirs,), name="mbexec-loky")
            self._process.start()
            theirs.close()

    def fork(self, pipe: Connection, mark: str) -> int:
        """A new worker's process id.

        Parameters
        ----------
        pipe
            The worker's end; the caller closes its own copy.
        mark
            Of the worker.
        """
        with self._lock:
            for _ in range(_ATTEMPTS):
                self.start()
                with suppress(EOFError, OSError):
                    pid: int = self._asked(("fork", mark), pipe)
                    return pid
        raise ExecutorError(
            f"No worker process can be started: {_ATTEMPTS} times the one that they are forked from died. "
            "Look for its traceback on standard error; perhaps memory or the number of processes is limited."
        )

    def exit_code(self, pid: int) -> int | None:
        """How a worker that is dead ended; None if nobody knows."""
        with self._lock, suppress(EOFError, OSError):
            code: int | None = self._asked(("reap", pid))
            return code
        return None

    def stop(self) -> None:
        """Let the process end once its workers have."""
        with self._lock:
            process = self._process
            self.forget()
            if process is not None:
                process.join(timeout=_PATIENCE)

    def forget(self) -> None:
        """Have nothing more to do with the process: it ends when it sees that nobody asks any more."""
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _asked(self, request: tuple[str, Any], pipe: Connection | None = None) -> Any:
        if self._connection is None:
            raise EOFError
        try:
            self._connection.send(request)
            if pipe is not None:
                send_handle(self._connection, pipe.fileno(), None)
            return self._connection.recv()
        except BaseException:  # an interrupt too: a later request would get this one's answer
            self.forget()
            raise
