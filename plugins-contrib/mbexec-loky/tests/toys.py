"""A program that does what its keywords say for some fragments, and computes the model potential otherwise."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from mbexec.core.potential import ModelPotential


class RandomError(Exception):
    error_type = "random_error"
    error_message = "it may go better the next time"


class Toy:
    """Keywords: `log`, a file that hears of every start; `deeds`, what to do by fragment; `pause`, seconds for each."""

    name = "toy"
    ghosts = "honoured"

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        if os.environ.get("ONLY_IN") not in (None, str(os.getpid())):
            raise ImportError("not in this process")
        return True

    def compute(self, request: Any, config: Any) -> Any:
        keywords = request.specification.keywords
        frag = request.molecule.name.rpartition("(")[2].rpartition(",[")[0]
        with open(keywords["log"], "a") as log:
            log.write(f"{frag} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {config.ncores} {os.getcwd()}\n")
        time.sleep(keywords.get("pause", 0))
        deed = keywords.get("deeds", {}).get(frag)
        if deed is not None:
            before = [line for line in Path(keywords["log"]).read_text().splitlines() if line.startswith(frag)]
            do(deed, len(before), config)
        plain = request.specification.model_copy(update={"keywords": {}, "program": "model-potential"})
        return ModelPotential().compute(request.model_copy(update={"specification": plain}), config)


def do(deed: str, attempt: int, config: Any) -> None:
    """Carry out a deed; `attempt` counts from 1."""
    if deed == "die once" and attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "talk":
        talk()
    elif deed == "talk much":
        print("".join(f"line {i}\n" for i in range(100_000)), end="")
    elif deed == "die talking":
        talk()
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "exit":
        os._exit(3)
    elif deed == "hang":
        leave_things(config)
        time.sleep(1000)
    elif deed == "hang the second time":
        if attempt == 1:
            time.sleep(0.6)
            raise RandomError
        time.sleep(1000)
    elif deed == "try twice":
        time.sleep(0.7)
        if attempt == 1:
            raise RandomError
    elif deed == "die with children":
        leave_things(config)
        os.kill(os.getpid(), signal.SIGKILL)


def talk() -> None:
    """Print as programs do: in Python, in C, from a child process, as a warning and by logging."""
    print("in Python")
    ctypes.CDLL(None).printf(b"in C\n")
    subprocess.run(["echo", "from a child"], check=True)
    warnings.warn("as a warning", stacklevel=1)
    logging.getLogger("toy").warning("by logging")


def leave_things(config: Any) -> None:
    """Start a process in this group and one in a session of its own, and leave files where programs do."""
    for session in (False, True):
        command = [sys.executable, "-c", "import time; time.sleep(1000)"]
        child = subprocess.Popen(command, start_new_session=session)
        Path(tempfile.mkdtemp(dir=config.scratch_directory), "child").write_text(str(child.pid))
        with open(os.environ["LEFT"], "a") as left:
            left.write(f"{child.pid}\n")
    tempfile.mkstemp()
