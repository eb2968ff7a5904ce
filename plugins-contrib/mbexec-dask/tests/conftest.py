"""A world of its own for each test, a toy program, and Dask's own commands."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import define

sys.path.insert(0, os.path.dirname(__file__))  # for what the tests share
if "COVERAGE_RCFILE" in os.environ:  # what workers tell of themselves would go to the directory of the first test
    os.environ.setdefault("COVERAGE_FILE", os.path.abspath(".coverage"))

from dask_cases import Commands, certificates, job


@pytest.fixture(autouse=True)
def _environment_kept() -> Iterator[None]:
    """Fail a test that leaves the environment changed."""
    kept = ("PYTEST_", "KMP_DUPLICATE_LIB_OK")
    before = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    yield
    assert {name: value for name, value in os.environ.items() if not name.startswith(kept)} == before


@pytest.fixture(autouse=True)
def _alone(_environment_kept, monkeypatch, tmp_path):
    """No settings but the test's own."""
    for name in list(os.environ):
        if name.startswith(("MBEXEC_", "QCENGINE_", "DASK_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


@define
class Toys:
    """Jobs on the toy program, and what it noted of them."""

    log: Path
    left: Path
    site: Path

    def job(self, deeds: dict[str, str] | None = None, nfr: int = 6, pause: float = 0, **task: Any) -> dict[str, Any]:
        """A job in which some fragments, by their 0-based numbers, misbehave."""
        keywords = {"log": str(self.log), "deeds": deeds or {}, "pause": pause}
        return job(nfr, keywords, program="dask-toy", **task)

    def starts(self) -> Counter[str]:
        """How often each fragment was begun."""
        return Counter(line[: line.index("]") + 1] for line in self.log.read_text().splitlines())

    def processes(self, place: int = 0) -> set[int]:
        """Those that ran fragments, or with 1 their Dask workers."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return {int(line.partition("] ")[2].split()[place]) for line in lines}


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Install the toy program."""
    site = tmp_path / "site-packages"
    info = site / "dask_toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dask-toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mbexec.programs]\ndask-toy = dask_toys:Toy\n")
    shutil.copy(Path(__file__).with_name("toys.py"), site / "dask_toys.py")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("LEFT", str(tmp_path / "left"))
    importlib.invalidate_caches()
    return Toys(tmp_path / "log", tmp_path / "left", site)


@pytest.fixture
def events():
    """What is logged."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture
def commands(tmp_path):
    """Dask's own commands, without TLS; what they started ends with the test."""
    made = Commands(tmp_path)
    yield made
    made.end()


@pytest.fixture
def secure(tmp_path):
    """The same with TLS."""
    made = Commands(tmp_path, certificates(tmp_path))
    yield made
    made.end()
