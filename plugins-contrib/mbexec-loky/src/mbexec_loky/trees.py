"""Ending a worker with everything that it has started, and saying how a process ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

__all__ = ["MARK", "ending", "kill_tree"]

MARK = "MBEXEC_WORKER"
_PATIENCE = 10.0


def kill_tree(pid: int, mark: str, *, spare: int | None = None) -> None:
    """Kill a worker, dead already or not, with all its descendants, and wait until they are gone.

    Found are those in its process group; while it lives, its descendants in other groups too; and those that carry
    the worker's mark in the environment that they were started with, whoever their parent is by now.

    Parameters
    ----------
    pid
        The worker's process, which leads a group of its own.
    mark
        Value of the variable :data:`MARK` in the environment that it gives to what it starts.
    spare
        A process that is not killed.
    """
    found = _descendants(pid)
    if spare is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for _ in range(5):  # one that was just being started may have escaped
        found = [process for process in [*found, *_marked(mark)] if process.pid not in (spare, os.getpid())]
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        end = time.monotonic() + _PATIENCE
        while any(map(_runs, found)) and time.monotonic() < end:
            time.sleep(0.005)
        found = []


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _runs(process: psutil.Process) -> bool:
    """Whether it does; a zombie does not, and in a container there may be nobody who buries it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _marked(mark: str) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and _runs(process):
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
