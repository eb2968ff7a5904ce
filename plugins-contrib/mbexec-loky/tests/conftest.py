"""A toy program, installed for a test; jobs on it; and a look at what is left behind."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import structlog
from attrs import define
from mbexec_loky import slots

import mbexec

if "COVERAGE_RCFILE" in os.environ:  # what workers tell of themselves would go to the directory of the first test
    os.environ.setdefault("COVERAGE_FILE", os.path.abspath(".coverage"))


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


@pytest.fixture(autouse=True)
def _environment_kept():
    """Fail a test that leaves the environment changed; PySCF sets a variable when it is first imported."""
    kept = ("PYTEST_", "KMP_DUPLICATE_LIB_OK")
    before = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    yield
    assert {name: value for name, value in os.environ.items() if not name.startswith(kept)} == before


@pytest.fixture(autouse=True)
def _alone(_environment_kept, monkeypatch, tmp_path):
    """No settings, no temporary files, no environment but the test's own."""
    for name in list(os.environ):
        if name.startswith(("MBEXEC_", "QCENGINE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    while slots._idle:  # their temporary directories are elsewhere
        slots.discard(slots._idle.pop())
    yield
    structlog.reset_defaults()


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Install the toy program."""
    site = tmp_path / "site-packages"
    info = site / "loky_toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loky-toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mbexec.programs]\ntoy = loky_toys:Toy\n")
    shutil.copy(Path(__file__).with_name("toys.py"), site / "loky_toys.py")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("LEFT", str(tmp_path / "left"))
    importlib.invalidate_caches()
    return Toys(tmp_path / "log", tmp_path / "left")


@pytest.fixture
def events():
    """What is logged."""
    with structlog.testing.capture_logs() as logged:
        yield logged


def bits(found: Any) -> tuple[bytes, bytes]:
    """Numbers of a result, to the last bit."""
    assert found.result.success, found.result.error.error_message
    return np.asarray(found.result.return_result).tobytes(), found.energies.tobytes()


def failures(found: mbexec.RunResult) -> dict[str, dict[str, str]]:
    """Errors by label."""
    return {entry["label"]: entry for entry in found.result.error.extras["failed"]}
