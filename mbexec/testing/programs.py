"""Toy programs: the model potential, and on the way to its answer whatever its keywords ask for.

``program = "toy-potential"`` in a job, and ``"mbexec.testing.programs:Toy"`` to workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mbexec.core.potential import ModelPotential

if TYPE_CHECKING:
    from qcelemental.models.v2 import AtomicInput, AtomicResult

__all__ = ["Toy"]

_POLL = 0.005
_WAIT = "import os, sys, time\nwhile os.path.exists(sys.argv[1]): time.sleep(0.02)"


class _Asked(Exception):  # noqa: N818 - the toy's failure is no error of ours
    """A failure that was asked for, with QCEngine's type."""

    def __init__(self, error_type: str) -> None:
        super().__init__(f"The toy fails as it was asked to: {error_type}.")
        self.error_type = error_type


def _log(path: str, said: str) -> None:
    """Append a line; a single short write in append mode is not torn between processes."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{said} {os.getpid()}\n")


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _wait(path: str) -> None:
    while os.path.exists(path):
        time.sleep(_POLL)


def _child(path: str) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", _WAIT, path]) as child:
        _log(path, f"child {child.pid} of")


def _interrupt(pid: int) -> None:
    os.kill(pid, signal.SIGINT)


def _kill(parent: int) -> None:
    if os.getpid() == parent:
        raise RuntimeError("The toy was asked to kill its worker, but that is the process of the run itself.")
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(error_type: str) -> None:
    raise _Asked(error_type)


_DEEDS: Mapping[str, Callable[[Any], None]] = {
    "log": lambda path: _log(path, "began"),
    "interrupt": _interrupt,
    "child": _child,
    "wait": _wait,
    "sleep": _sleep,
    "kill": _kill,
    "fail": _fail,
}


class Toy(ModelPotential):
    """The model potential with further keywords, done in this order before it computes.

    ========== ========================================================================================
    log        path: append a line, ``began PID``, and ``ended PID`` before the answer is given
    interrupt  process id: send that process an interrupt, as Ctrl-C does
    child      path: start a child process that waits until the file is gone, and wait for the child; append
               ``child PID of PID`` to the file
    wait       path: wait until the file is gone
    sleep      seconds
    kill       process id of the run: kill the worker, unless it is that process
    fail       QCEngine's type of error: fail with it
    ========== ========================================================================================
    """

    name = "toy-potential"

    def compute(self, input_data: AtomicInput, config: object) -> AtomicResult:
        """Do what the keywords ask for, then compute."""
        specification = input_data.specification
        asked = {key: value for key, value in specification.keywords.items() if key in _DEEDS}
        for key, deed in _DEEDS.items():
            if key in asked:
                deed(asked[key])
        rest = {key: value for key, value in specification.keywords.items() if key not in _DEEDS}
        plain = input_data.model_copy(update={"specification": specification.model_copy(update={"keywords": rest})})
        found = super().compute(plain, config).model_copy(update={"input_data": input_data})
        if "log" in asked:
            _log(asked["log"], "ended")
        return found
