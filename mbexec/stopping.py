"""Ctrl-C and a scheduler's signals on the command line: start nothing new, finish what runs, then kill."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import NoReturn, TypeVar

import psutil
from attrs import define, field
from rich.console import Console

__all__ = ["INTERRUPTED", "run_until_stopped"]

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TO_END = 0.5  # seconds for a run to end in good order after its child processes were killed
_TO_KILL = 3.0  # seconds that killing them may take
_POLL = 0.05
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

T = TypeVar("T")


def run_until_stopped(
    job: Callable[[], T],
    stop: threading.Event,
    grace: float,
    last_words: Callable[[], str],
    begun: Callable[[], bool],
) -> T:
    """Run a job that drains when `stop` is set, and set it on SIGINT, SIGTERM or SIGHUP.

    The job has a thread of its own in which SIGINT is blocked: Ctrl-C reaches every process of a terminal, but those
    that the job starts inherit the block, so that programs finish the fragments they are at.

    Parameters
    ----------
    job
        What to run.
    stop
        Tells the job to start nothing new.
    grace
        Seconds after the first signal until child processes are killed. A second signal kills at once. A job that
        does not end even then is left behind with the process.
    last_words
        Gives the last line of a process that ends without its job.
    begun
        Whether there may be something that runs, for what is said after the first signal.

    Returns
    -------
    Whatever the job returns; what it raises is raised.
    """
    outcome = Future[T]()
    thread = threading.Thread(target=copy_context().run, args=(_into, outcome, job), name="mbexec", daemon=True)
    stopping = _Stopping(stop, grace, last_words, begun)
    with stopping.listening():
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            stopping.enforce(thread)
    return outcome.result()


def _into(outcome: Future[T], job: Callable[[], T]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        outcome.set_result(job())
    except BaseException as error:
        outcome.set_exception(error)


@define(eq=False)
class _Stopping:
    """Whether and since when the run is being stopped."""

    stop: threading.Event
    grace: float
    last_words: Callable[[], str]
    begun: Callable[[], bool]
    _deadline: float = field(default=0.0, init=False)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to signals; when told to stop, until the very end of the process."""
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        try:
            yield
        finally:
            if not self.stop.is_set():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def enforce(self, thread: threading.Thread) -> None:
        """Kill what the run has started when its time is over; from then on it starts nothing."""
        if not (self.stop.is_set() and thread.is_alive() and time.monotonic() > self._deadline):
            return
        sys.addaudithook(_refuse_to_start)
        give_up = time.monotonic() + _TO_END
        while thread.is_alive() and time.monotonic() < give_up:
            _kill_children()
            thread.join(_POLL)
        if thread.is_alive():
            _leave(self.last_words())

    def _heard(self, number: int, _: object) -> None:
        if self.stop.is_set():
            _leave(self.last_words())
        self._deadline = time.monotonic() + self.grace
        self.stop.set()
        name = signal.Signals(number).name
        told = f"nothing new is started, what runs has {self.grace:g} s to finish. Ctrl-C kills it."
        if not self.begun():
            told = "no calculation has begun, and none is started. Ctrl-C ends it at once."
        # click would write past a display that is being drawn there
        print(f"Stopping ({name}): {told}", file=sys.stderr, flush=True)


def _kill_children() -> bool:
    """Kill all that this process has started, and what that has; whether there was anything."""
    running = [child for child in psutil.Process().children(recursive=True) if _runs(child)]
    for child in running:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    return bool(running)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _leave(last_words: str) -> None:
    """End this process at once with a last line, and the terminal with a cursor.

    Threads go on meanwhile: one whose program was killed may be about to start the next one, or to log its death. And
    the signal may have come in the middle of writing to standard error, which can't be written to then, but for its
    descriptor.
    """
    try:
        with suppress(RuntimeError):
            console = Console(stderr=True)
            console.show_cursor()
            console.file.flush()
        sys.addaudithook(_start_nothing)
        _log_nothing()
        give_up = time.monotonic() + _TO_KILL
        while _kill_children() and time.monotonic() < give_up:
            time.sleep(0.01)
        with suppress(OSError):
            os.write(2, f"{chr(10) * os.isatty(2)}{last_words}\n".encode())
    finally:
        os._exit(INTERRUPTED)


def _log_nothing() -> None:
    import structlog

    def _dropped(*_: object) -> NoReturn:
        raise structlog.DropEvent

    structlog.configure(processors=[_dropped])


def _refuse_to_start(event: str, _: object) -> None:
    """Let whoever wants to start a process fail: the calculation that needs it, and so the run, comes to an end."""
    if event in _STARTS:
        raise RuntimeError("mbexec is being stopped, and starts no process any more.")


def _start_nothing(event: str, _: object) -> None:
    """Hold whoever wants to start a process until this one has ended."""
    if event in _STARTS:
        threading.Event().wait()
