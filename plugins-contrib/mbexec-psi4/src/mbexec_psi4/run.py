"""psi4 as a process of its own, in a directory of its own, neither of which outlives the call."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcengine.config import TaskConfig
from qcengine.exceptions import ResourceError

__all__ = ["Outcome", "run_psi4"]

_SCRIPT = Path(__file__).with_name("inside.py")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What a psi4 that has ended left.

    Parameters
    ----------
    answer : dict, optional
        Numbers or an error; None if it ended without an answer.
    output : str
        psi4's output file.
    printed : str
        What it printed besides.
    returncode : int
        Its exit code, or minus the signal that ended it.
    """

    answer: dict[str, Any] | None
    output: str
    printed: str
    returncode: int


def run_psi4(executable: str, request: dict[str, Any], config: TaskConfig) -> Outcome:
    """Let psi4 answer a request.

    Parameters
    ----------
    executable : str
        Path of the ``psi4`` command.
    request : dict
        For the script that runs inside psi4.
    config : TaskConfig
        ``ncores``, ``scratch_directory`` and ``scratch_messy`` are used.

    Returns
    -------
    Outcome
        Read before the scratch directory was deleted.

    Raises
    ------
    ResourceError
        A scratch directory could not be made.
    """
    with _scratch(config) as folder:
        (folder / "request.json").write_text(json.dumps(request))
        command = [executable, "-k", "-n", str(config.ncores), "-s", ".", "-i", str(_SCRIPT), "-o", "output.txt"]
        returncode = _execute(command, folder, config.ncores)
        answer = folder / "answer.json"
        return Outcome(
            answer=json.loads(answer.read_text()) if answer.exists() else None,
            output=_text(folder / "output.txt"),
            printed=_text(folder / "printed.txt"),
            returncode=returncode,
        )


@contextlib.contextmanager
def _scratch(config: TaskConfig) -> Iterator[Path]:
    """A new directory, deleted in the end unless ``scratch_messy`` is set."""
    parent = config.scratch_directory or os.environ.get("PSI_SCRATCH")
    try:
        folder = Path(tempfile.mkdtemp(prefix="mbexec-psi4-", dir=parent))
    except OSError as err:
        raise ResourceError(
            f"No scratch directory can be made in {parent or tempfile.gettempdir()!r}: {err.strerror}. "
            "Set scratch_directory of the task configuration to a directory that can be written to."
        ) from err
    try:
        yield folder
    finally:
        if not config.scratch_messy:
            shutil.rmtree(folder, ignore_errors=True)


def _execute(command: list[str], folder: Path, ncores: int) -> int:
    """Run a command in a session of its own, all of which is killed in the end; return its exit code.

    Its standard input is a pipe that closes when this process ends, however it does; see ``inside.watch``.
    """
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(ncores)), "PSI_SCRATCH": str(folder)}
    with (folder / "printed.txt").open("wb") as printed:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with process:
        try:
            # Not reaped yet, so that its id still stands for this session and no other.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
