"""A world of its own for each test, and a pool of workers that they share."""

from __future__ import annotations

import os
import tempfile

import pytest
import structlog
from mbexec_parsl import Parsl, pool

from mbexec.testing.trial import plugged

if "COVERAGE_RCFILE" in os.environ:  # what workers tell of themselves would go to the directory of the first test
    os.environ.setdefault("COVERAGE_FILE", os.path.abspath(".coverage"))


@pytest.fixture(autouse=True)
def _environment_kept():
    """Fail a test that leaves the environment changed."""
    before = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    yield
    assert {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} == before


@pytest.fixture(autouse=True)
def _alone(_environment_kept, monkeypatch, tmp_path):
    """No settings, no temporary files, no environment but the test's own."""
    for name in list(os.environ):
        if name.startswith(("MBEXEC_", "QCENGINE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


@pytest.fixture
def events():
    """What is logged."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture
def parsl():
    """The executor, with workers that other tests use as well."""
    with plugged(Parsl) as executor:
        yield executor


@pytest.fixture
def no_pool():
    """Nobody's workers wait, before and after."""
    pool._end()
    yield
    pool._end()
