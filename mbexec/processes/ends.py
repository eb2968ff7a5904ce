"""How a child process is ended with all that it started, and how it ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["MARK", "OUTPUT", "ending", "gone", "kill_marked", "kill_tree", "last_words", "runs"]

MARK = "MBEXEC_WORKER"
OUTPUT = "output"  # the file with what was printed
_LAST = 2000
_PATIENCE = 10.0  # s


def last_words(directory: str) -> str:
    """The end of what a process has printed and not handed over; empty if there is nothing.

    Parameters
    ----------
    directory
        That of :func:`catch_output`.
    """
    try:
        text = Path(directory, OUTPUT).read_bytes().decode(errors="replace").strip()
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
