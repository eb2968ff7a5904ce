"""For executors whose fragments run in child processes: what is printed there, what is sent, and how one is ended."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from attrs import evolve

from mbexec.core.types import Task, TaskResult
from mbexec.core.work import NeedContext, run_chunk

__all__ = [
    "MARK",
    "catch_output",
    "ending",
    "gone",
    "kill_marked",
    "kill_tree",
    "last_words",
    "packed",
    "run_packed",
    "runs",
    "take_output",
]

MARK = "MBEXEC_WORKER"
_FILE = "output"
_MOST = 65_536
_LAST = 2000
_BY_LINE = 1  # the C library's _IOLBF
_PATIENCE = 10.0  # s
_libc = ctypes.CDLL(None)


# In the child


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
    caught = os.open(os.path.join(directory, _FILE), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
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


# In its parent, and where it ends itself


def last_words(directory: str) -> str:
    """The end of what a process has printed and not handed over; empty if there is nothing.

    Parameters
    ----------
    directory
        That of :func:`catch_output`.
    """
    try:
        text = Path(directory, _FILE).read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""
    return text if len(text) <= _LAST else f"...{text[-_LAST:]}"


def kill_tree(pid: int, mark: str, *, spare: bool = False) -> None:
    """Kill a process, dead already or not, with all its descendants, and wait until those are gone.

    Found are those in its process group; while it lives, its descendants in other groups too; and those that carry
    its mark in the environment that they were started with, whoever their parent is by now.

    Parameters
    ----------
    pid
        Of the process, which leads a group of its own.
    mark
        Value of the variable :data:`MARK` in the environment that it gives to what it starts.
    spare
        Whether it stays itself, as when it calls this.
    """
    found = _descendants(pid)
    if not spare:
        found += _group(pid)  # before they are killed: what is just ending shows its mark no more
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    _kill(found, mark, (os.getpid(), pid) if spare else (os.getpid(),))


def kill_marked(mark: str) -> None:
    """Kill all processes that carry a mark in the environment they were started with, and wait until they are gone.

    Parameters
    ----------
    mark
        Value of the variable :data:`MARK`.
    """
    _kill([], mark, (os.getpid(),))


def _kill(found: list[psutil.Process], mark: str, spared: tuple[int, ...]) -> None:
    for _ in range(5):  # one that was just being started may have escaped
        found = [process for process in [*found, *_marked(mark)] if process.pid not in spared]
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        gone(found, _PATIENCE)
        found = []


def gone(processes: list[psutil.Process], patience: float) -> bool:
    """Whether processes have ended, after waiting for it, `patience` seconds at most."""
    end = time.monotonic() + patience
    while any(map(runs, processes)):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def runs(process: psutil.Process) -> bool:
    """Whether it does; a zombie does not, and in a container there may be nobody who buries it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _group(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getpgid(process.pid) == pid:
                found.append(process)
    return found


def _marked(mark: str) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and runs(process):
                yield process


def ending(code: int | None) -> str:
    """An exit code in words; negative for a signal, None if nobody knows."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown to Python"
    hint = "; perhaps memory ran out" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code} ({name}){hint}"
