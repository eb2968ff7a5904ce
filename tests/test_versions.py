"""Workers of another environment: refused where their numbers might differ."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict

import pytest

from mbexec import ExecutorError, check_versions, worker_versions
from mbexec.core import versions, work
from tests.systems import PYSCF, WATER_TRIMER, argon, job
from tests.test_executors import work_of


@pytest.fixture(autouse=True)
def _as_a_worker(monkeypatch):
    """The process plays the worker, and is none afterwards."""
    monkeypatch.setattr(work._Worker, "key", "")
    monkeypatch.setattr(work._Worker, "known", OrderedDict())
    yield
    work._Worker.limits.close()


@pytest.fixture
def given():
    """Work on the model potential."""
    return work_of(job(argon(3)))[1]


def test_a_worker_of_the_same_environment_is_taken(given):
    """It knows the context afterwards, so that tasks can follow."""
    told = worker_versions(given.key, given.blob, ["mbexec-loky"])
    assert {"Python", "mbexec", "mbexec-loky", "numpy", "qcelemental", "the program model-potential"} <= told.keys()
    check_versions(given, told, "A worker")
    assert work.run_chunk(given.key, []) == []


def test_another_process_says_the_same(given):
    """A fresh interpreter of the same environment."""
    script = "import sys, mbexec; print(mbexec.worker_versions(sys.argv[1], bytes.fromhex(sys.argv[2])))"
    command = [sys.executable, "-c", script, given.key, given.blob.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(worker_versions(given.key, given.blob))


@pytest.mark.parametrize("name", ["Python", "mbexec", "numpy", "mbexec-loky", "the program model-potential"])
def test_another_version_is_refused(name, given):
    """The message names it, and both versions."""
    told = worker_versions(given.key, given.blob, ["mbexec-loky"])
    own, told[name] = told[name], "9.9"
    with pytest.raises(ExecutorError) as refused:
        check_versions(given, told, "The worker 'far'")
    assert str(refused.value) == (
        f"The worker 'far' has other versions than this process: {name} 9.9 (here {own}). "
        "The numbers might differ; install the same versions in both environments."
    )


def test_what_only_one_of_them_has_is_a_difference(given, monkeypatch):
    """A distribution that is not installed there."""
    monkeypatch.setattr(versions, "_ALWAYS", ("mbexec", "no-such-thing"))
    told = worker_versions(given.key, given.blob)
    assert told["no-such-thing"] == "not installed"
    check_versions(given, told, "A worker")
    monkeypatch.setattr(versions, "version", lambda name: "1.0")
    with pytest.raises(ExecutorError, match=r"no-such-thing not installed \(here 1\.0\)"):
        check_versions(given, told, "A worker")


def test_what_can_not_be_loaded_is_told(given):
    """In the words of what went wrong there, once versions agree; versions come first."""
    told = worker_versions("key", b"no pickle")
    with pytest.raises(ExecutorError, match=r"^A worker can't get ready for the run: UnpicklingError: .+$"):
        check_versions(given, told, "A worker")
    told["numpy"] = "0.1"
    with pytest.raises(ExecutorError, match=r"^A worker has other versions .* numpy 0\.1 "):
        check_versions(given, told, "A worker")


@pytest.mark.qc
def test_the_version_of_a_program_counts(monkeypatch):
    """PySCF's own, its harness's and QCEngine's."""
    given = work_of(job(WATER_TRIMER, program=PYSCF))[1]
    told = worker_versions(given.key, given.blob)
    check_versions(given, told, "A worker")
    assert told["qcengine"]
    assert "mbexec-pyscf" in told["the program pyscf"]
    told["the program pyscf"] = "2.0"
    with pytest.raises(ExecutorError, match=r"the program pyscf 2\.0 \(here 2\."):
        check_versions(given, told, "A worker")
