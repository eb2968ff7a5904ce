"""A program of Parsl's that ends when the run does: ``python started.py PID FILE FOLDER MODULE ARGUMENT ...``.

``PID`` is the process of the run, 0 if that is on another machine. ``FILE`` takes what is printed, and the program
leaves the session for one of its own; "-" for neither. ``FOLDER`` is removed when the process of the run is gone, which
else does that; "-" for none. Run by its path, so that nothing of mbexec's need be imported.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import process
from multiprocessing.util import _run_finalizers  # type: ignore[attr-defined]
from typing import Any

import psutil

__all__ = ["main"]

_PERIOD = 1.0


def main(parent: int, file: str, folder: str, module: str, arguments: Sequence[str]) -> None:
    """Become the program that a module of Parsl's is."""
    if file != "-":
        os.setsid()  # Ctrl-C in the terminal is for the run, which may finish what runs
        said = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_watch, args=(parent, folder), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(parent: int, folder: str) -> None:
    """End when nobody is left to hear of what is done here, or when a worker has died.

    A worker that was killed may have held the lock of a queue that all others wait for.
    """
    workers: set[Any] = set()
    with suppress(psutil.Error, ValueError):
        run = psutil.Process(parent) if parent else None
        while run is None or (run.is_running() and run.status() != psutil.STATUS_ZOMBIE):
            workers.update(list(process._children))  # type: ignore[attr-defined]
            if any(each.exitcode is not None for each in workers):
                folder = "-"
                break
            time.sleep(_PERIOD)
    if folder != "-":
        shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(number: int, frame: object) -> None:
    """Leave with this group, and no directory of multiprocessing's behind; threads of Parsl's are not waited for."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _run_finalizers(0)
    os.killpg(0, signal.SIGTERM)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
