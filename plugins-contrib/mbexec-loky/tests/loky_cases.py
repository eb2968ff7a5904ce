"""Jobs on the toy program, what it noted of them, and a look at what is left behind."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from attrs import define

import mbexec


def argon(nfr: int) -> str:
    """Argon atoms on a crooked line, one a fragment, in angstrom."""
    return "\n--\n".join(f"Ar {3.9 * i:.3f} {0.7 * (i % 3):.3f} {0.4 * (i % 5):.3f}" for i in range(nfr))


def job(nfr: int = 6, program: dict[str, Any] | None = None, driver: str = "energy", **task: Any) -> dict[str, Any]:
    """The tables of a job: pairs of argon atoms, on the model potential unless a program is given."""
    return {
        "molecule": {"geometry": argon(nfr)},
        "mbe": {"bsse_type": "nocp", "max_nbody": 2, "driver": driver},
        "program": program or {"program": "model-potential", "method": "lj"},
        "task": {"ncores": 1, "memory": 1, **task},
        "run": {"executor": "loky", "workers": 2},
    }


@define
class Toys:
    """Jobs on the toy program, and what it noted of them."""

    log: Path
    left: Path

    def job(self, deeds: dict[str, str] | None = None, nfr: int = 6, pause: float = 0, **task: Any) -> dict[str, Any]:
        """A job in which some fragments, by their 0-based numbers, misbehave."""
        keywords = {"log": str(self.log), "deeds": deeds or {}, "pause": pause}
        return job(nfr, {"program": "toy", "method": "lj", "keywords": keywords}, **task)

    def lines(self) -> list[list[str]]:
        """What was noted at each start: fragment, process, OMP_NUM_THREADS, ncores, directory."""
        lines = self.log.read_text().splitlines()
        return [[line[: line.index("]") + 1], *line[line.index("]") + 2 :].split(" ")] for line in lines]

    def starts(self) -> Counter[str]:
        """How often each fragment was started."""
        return Counter(line[0] for line in self.lines())

    def orphans(self) -> list[int]:
        """Processes that toys started and that still run."""
        pids = [int(line) for line in self.left.read_text().split()]
        assert pids
        return [pid for pid in pids if running(pid)]


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(condition: Callable[[], bool], patience: float = 10) -> bool:
    """Whether it becomes true."""
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def scratch() -> list[Path]:
    """Workers' directories in the system's temporary one."""
    return list(Path(tempfile.gettempdir()).glob("mbexec-" + 16 * "[0-9a-f]"))


def bits(found: Any) -> tuple[bytes, bytes]:
    """Numbers of a result, to the last bit."""
    assert found.result.success, found.result.error.error_message
    return np.asarray(found.result.return_result).tobytes(), found.energies.tobytes()


def failures(found: mbexec.RunResult) -> dict[str, dict[str, str]]:
    """Errors by label."""
    return {entry["label"]: entry for entry in found.result.error.extras["failed"]}
