"""Threads and QCEngine's global state: cold interpreters, many threads at once."""

import json
import subprocess
import sys

import pytest
from qcengine.programs.base import programs

import mbexec
from tests.programs import Napping
from tests.systems import argon, job

SCRIPT = """
import json, sys, threading
import mbexec
from mbexec.core import program
from qcelemental.models.v2 import AtomicResult
from qcengine.programs.model import ProgramHarness
import qcengine

NTHREADS = 32
together = threading.Barrier(NTHREADS)

class Together(ProgramHarness):
    _defaults = dict.fromkeys(("scratch", "thread_parallel", "node_parallel", "managed_memory"), False)
    _defaults |= {"name": "together", "thread_safe": True}

    @staticmethod
    def found(raise_error=False):
        return True

    def get_version(self):
        return "1"

    def compute(self, input_data, config):
        assert (config.ncores, config.memory, config.retries) == (1, 0.5, 0)
        together.wait(60)
        return AtomicResult(
            input_data=input_data, molecule=input_data.molecule, return_result=1.0, success=True,
            properties={"return_energy": 1.0}, provenance={"creator": "together", "version": "1"},
        )

qcengine.register_program(Together())
if sys.argv[1] == "unguarded":
    program.describe_host = lambda known: None
atoms = "\\n--\\n".join(f"He 0 0 {3 * i}" for i in range(NTHREADS))
found = mbexec.run(
    {
        "molecule": {"geometry": atoms},
        "mbe": {"bsse_type": "nocp", "max_nbody": 1, "cluster_results": "all", "return_total_data": True},
        "program": {"program": "together", "method": "hf"},
        "task": {"memory": 0.5, "ncores": 1},
    },
    executor="threads",
    workers=NTHREADS,
)
wrong = [] if found.result.success else [f["error_message"] for f in found.result.error.extras["failed"]]
print(json.dumps(wrong))
"""


def fresh(how):
    """What went wrong in a new process with 32 threads that call QCEngine at the same moment."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("_", range(2))
def test_a_cold_start_with_all_threads_at_once(_):
    """QCEngine's host description is whole before the first of them asks for it."""
    assert fresh("guarded") == []


def test_what_is_guarded_against():
    """Without it, threads see the description half filled: the test above would notice."""
    assert any("KeyError" in message for message in fresh("unguarded"))


def test_programs_that_wait_wait_together(monkeypatch):
    """Child processes that sleep: four threads take much less than half of the serial time."""
    monkeypatch.setitem(programs, "napping", Napping())
    tables = job(argon(8), max_nbody=1, program={"program": "napping", "method": "lj"}, return_total_data=True)
    serial, threads = (mbexec.run(tables, executor=name, workers=4) for name in ("serial", "threads"))
    assert serial.report.wall_time > 2.5 * threads.report.wall_time


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fifty_cold_starts():
    """Not once in fifty processes."""
    assert [wrong for wrong in (fresh("guarded") for _ in range(50)) if wrong] == []
