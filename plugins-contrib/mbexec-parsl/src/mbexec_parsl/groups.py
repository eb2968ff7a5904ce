"""Ending a block on this machine, with all of its processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

from mbexec.processes import gone

__all__ = ["kill_group"]

_PATIENCE = 10.0  # s


def kill_group(pid: int, leader: str, patience: float) -> None:
    """Ask the group of a process, which may be gone, to end, and kill what has not ended when patience is over.

    Parameters
    ----------
    pid
        Of any process in the group.
    leader
        What stands in the command of a process that ends the others when it is asked to end; all are asked without it.
    patience
        Seconds.
    """
    with suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        members = [each for each in psutil.process_iter() if _group(each) == group]
        leaders = [each for each in members if leader in _command(each)]
        for each in leaders or members:
            with suppress(psutil.Error):
                each.terminate()
        if not gone(members, patience):
            os.killpg(group, signal.SIGKILL)
            gone(members, _PATIENCE)


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return 0


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
