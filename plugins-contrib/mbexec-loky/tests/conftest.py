"""A world of its own for each test, and a toy program in it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import structlog
from mbexec_loky import slots

sys.path.insert(0, os.path.dirname(__file__))  # for what the tests share
if "COVERAGE_RCFILE" in os.environ:  # what workers tell of themselves would go to the directory of the first test
    os.environ.setdefault("COVERAGE_FILE", os.path.abspath(".coverage"))


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
    from loky_cases import Toys

    return Toys(tmp_path / "log", tmp_path / "left")


@pytest.fixture
def events():
    """What is logged."""
    with structlog.testing.capture_logs() as logged:
        yield logged
