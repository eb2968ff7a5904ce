"""Psi4's process and its files end with the call, however the call ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mbexec_psi4 import Psi4Harness

pytestmark = [pytest.mark.qc, pytest.mark.usefixtures("psi4")]

PATIENCE = 30.0  # s

# CCSD(T) of neon takes minutes in this basis.
ENDLESS = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if tests run in the background of a script
from mbexec_psi4 import Psi4Harness
from qcelemental.models.v2 import AtomicInput, Molecule
from qcengine.config import TaskConfig

task = AtomicInput(
    molecule=Molecule(symbols=["Ne", "Ne"], geometry=[0, 0, 0, 0, 0, 6]),
    specification={"program": "psi4", "driver": "energy", "model": {"method": "ccsd(t)", "basis": "cc-pvqz"}},
)
config = TaskConfig(ncores=1, memory=1.0, nnodes=1, retries=0, scratch_directory=sys.argv[1], mpiexec_command=None)
Psi4Harness().compute(task, config)
"""


def until(condition):
    """Wait for something to be so."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
    return found


def at_work(scratch):
    """Processes that work in a scratch directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(scratch)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_computing(folder):
    """Whether psi4 has come as far as its coupled cluster."""
    return any("CCSD" in output.read_text() for output in folder.glob("*/output.txt"))


def test_nothing_is_left(fragment, compute, config):
    """After a calculation its scratch directory and its processes are gone."""
    compute(fragment())
    assert list(Path(config.scratch_directory).iterdir()) == []
    assert at_work(config.scratch_directory) == []


def test_messy(fragment, atomic_input, config):
    """scratch_messy keeps the directory, with what psi4 was told and what it answered."""
    messy = config.model_copy(update={"scratch_messy": True})
    Psi4Harness().compute(atomic_input(fragment()), messy)
    (folder,) = Path(config.scratch_directory).iterdir()
    assert {"request.json", "answer.json", "output.txt"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("scratch", ["PSI_SCRATCH", "TMPDIR"])
def test_default_scratch(fragment, atomic_input, config, monkeypatch, tmp_path, scratch):
    """Without a scratch directory psi4's variable names it, and without that the system does."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.delenv("PSI_SCRATCH", raising=False)
    monkeypatch.setenv(scratch, str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    messy = config.model_copy(update={"scratch_directory": None, "scratch_messy": True})
    Psi4Harness().compute(atomic_input(fragment()), messy)
    assert len(list(folder.glob("mbexec-psi4-*"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_caller_ends(tmp_path, number):
    """Whoever calls is interrupted or killed: psi4, its watcher and its scratch directory go too."""
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    scratch = tmp_path / "busy"
    scratch.mkdir()
    caller = subprocess.Popen([sys.executable, script, scratch], stderr=subprocess.PIPE)
    try:
        until(lambda: is_computing(scratch))
        assert len(at_work(scratch)) == 2
        os.kill(caller.pid, number)
        _, said = caller.communicate(timeout=PATIENCE)
    finally:
        caller.kill()
        caller.communicate()
    until(lambda: not at_work(scratch) and not list(scratch.iterdir()))
    assert caller.returncode == -number
    assert (b"KeyboardInterrupt" in said) == (number == signal.SIGINT)


def test_caller_ends_early(tmp_path):
    """A psi4 that is still starting when its caller is killed ends as soon as it has started."""
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    scratch = tmp_path / "busy"
    scratch.mkdir()
    caller = subprocess.Popen([sys.executable, script, scratch])
    try:
        until(lambda: at_work(scratch))
    finally:
        caller.kill()
        caller.wait()
    until(lambda: not at_work(scratch) and not list(scratch.iterdir()))


def test_psi4_is_killed(fragment, compute, config, monkeypatch):
    """Where psi4 alone is killed, its watcher and its scratch directory go too, and the error names the signal."""
    from mbexec_psi4 import run
    from qcengine.exceptions import UnknownError

    wait = os.waitid

    def kill_and_wait(kind, pid, options):
        until(lambda: len(at_work(config.scratch_directory)) == 2)
        os.kill(pid, signal.SIGKILL)
        return wait(kind, pid, options)

    monkeypatch.setattr(run.os, "waitid", kill_and_wait)
    with pytest.raises(UnknownError, match="psi4 was ended by SIGKILL in the energy of ccsd/cc-pvqz, without"):
        compute(fragment(), "ccsd", "cc-pvqz")
    assert list(Path(config.scratch_directory).iterdir()) == []
    until(lambda: at_work(config.scratch_directory) == [])


def test_threads(fragment, atomic_input, config):
    """Several threads at once get the bits that one gets alone."""
    from concurrent.futures import ThreadPoolExecutor

    tasks = [atomic_input(fragment((number,), (1, 2, 3))) for number in (1, 2, 3)]
    alone = [Psi4Harness().compute(task, config).return_result for task in tasks]
    with ThreadPoolExecutor(3) as pool:
        shared = [result.return_result for result in pool.map(lambda task: Psi4Harness().compute(task, config), tasks)]
    assert shared == alone
    assert list(Path(config.scratch_directory).iterdir()) == []
