"""A program that does what its keywords say for some fragments, and computes the model potential otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mbexec.core.potential import ModelPotential


class RandomError(Exception):
    error_type = "random_error"
    error_message = "it may go better the next time"


class Toy:
    """Keywords: `log`, a file that hears of every start; `deeds`, what to do by fragment; `pause`, seconds for each."""

    name = "dask-toy"
    ghosts = "honoured"

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        if "NO_TOYS" in os.environ and os.environ["NO_TOYS"] != str(os.getpid()):
            raise ModuleNotFoundError("no toys in this process")
        if "DEADLY_TOYS" in os.environ and os.environ["DEADLY_TOYS"] != str(os.getpid()):
            print("can't be loaded")
            sys.stdout.flush()
            os._exit(5)
        return True

    @staticmethod
    def get_version() -> str:
        return os.environ.get("TOY_VERSION", "1.0")

    def compute(self, request: Any, config: Any) -> Any:
        keywords = request.specification.keywords
        frag = request.molecule.name.rpartition("(")[2].rpartition(",[")[0]
        with open(keywords["log"], "a") as log:
            log.write(f"{frag} {os.getpid()} {os.getppid()} {config.ncores} {os.getcwd()}\n")
        time.sleep(keywords.get("pause", 0))
        deed = keywords.get("deeds", {}).get(frag)
        if deed is not None:
            attempt = sum(line.startswith(frag) for line in Path(keywords["log"]).read_text().splitlines())
            do(deed, attempt, config)
        plain = request.specification.model_copy(update={"keywords": {}, "program": "model-potential"})
        return ModelPotential().compute(request.model_copy(update={"specification": plain}), config)


def do(deed: str, attempt: int, config: Any) -> None:
    """Carry out a deed; `attempt` counts from 1."""
    if deed == "die once" and attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "die talking":
        print("about to die")
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "exit":
        os._exit(3)
    elif deed == "kill the Dask worker" or (deed == "kill the Dask worker once" and attempt == 1):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    elif deed == "hang with a child":
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
        Path(os.environ["LEFT"]).write_text(str(child.pid))
        time.sleep(1000)
    elif deed == "talk":
        print("in Python")
        subprocess.run(["echo", "from a child"], check=True)
    elif deed == "talk much":
        print("line\n" * 100_000, end="")
    elif deed == "try twice":
        time.sleep(1.0)
        if attempt == 1:
            raise RandomError
    elif deed == "tell of scratch":
        print(tempfile.gettempdir(), config.scratch_directory)
