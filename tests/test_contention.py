"""Speedup of loads that are real: of workers that share a core, that wait, and that run one after the other.

Each fragment takes a known amount of processor time, or of sleep, so the true speedup of a run follows from its wall
time alone, whatever else the machine has to do meanwhile.
"""

import json
import os
import subprocess
import sys
import time
from textwrap import dedent

import psutil
import pytest

FRAGMENTS = 8
SECONDS = 0.2
PROGRAMS = """
    import subprocess
    import sys
    import time

    from mbexec.core.potential import ModelPotential

    CHILD = "import time\\nwhile time.process_time() < float(__import__('sys').argv[1]): pass"


    class Spins(ModelPotential):
        def compute(self, input_data, config):
            end = time.thread_time() + SECONDS
            while time.thread_time() < end:
                pass
            return super().compute(input_data, config)


    class Calls(ModelPotential):
        def compute(self, input_data, config):
            subprocess.run([sys.executable, "-I", "-S", "-c", CHILD, str(SECONDS)], check=True)
            return super().compute(input_data, config)


    class Sleeps(ModelPotential):
        def compute(self, input_data, config):
            time.sleep(3 * SECONDS)
            return super().compute(input_data, config)
"""
SCRIPT = """
import json, os, sys
import mbexec

cores, runs, geometry = json.loads(sys.argv[1])
os.sched_setaffinity(0, cores)
found = {}
for program, executor, workers in runs:
    job = {
        "molecule": {"geometry": geometry},
        "mbe": {"max_nbody": 1, "bsse_type": "nocp"},
        "program": {"program": program, "method": "lj"},
    }
    done = mbexec.run(job, executor=executor, workers=workers)
    assert done.result.success
    found[f"{program} {executor} {workers}"] = done.report.as_dict()
print(json.dumps(found))
"""
SHARED = ["threads", "asyncio", "loky"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Reports of runs in a process of its own, which may use these cores."""
    site = tmp_path_factory.mktemp("site")
    info = site / "loads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loads\nVersion: 1.0\n")
    names = "spins = loads:Spins\ncalls = loads:Calls\nsleeps = loads:Sleeps\n"
    (info / "entry_points.txt").write_text(f"[mbexec.programs]\n{names}")
    (site / "loads.py").write_text(f"SECONDS = {SECONDS}\n{dedent(PROGRAMS)}")
    geometry = "\n--\n".join(f"Ar 0 0 {4 * place}" for place in range(FRAGMENTS))

    def run(cores, runs):
        call = [sys.executable, "-c", SCRIPT, json.dumps([cores, runs, geometry])]
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def on_one_core(measured):
    """Two workers on each executor, and serial, all pinned to one core."""
    runs = [("spins", executor, 2) for executor in SHARED]
    return measured([max(os.sched_getaffinity(0))], [*runs, ("spins", "serial", 1), ("calls", "serial", 1)])


@pytest.mark.parametrize("executor", SHARED)
def test_two_workers_on_one_core_gain_nothing(on_one_core, executor):
    """Each fragment takes twice as long beside another as alone, so there is no speedup, and certainly none of 2."""
    report = on_one_core[f"spins {executor} 2"]
    alone = FRAGMENTS * SECONDS
    assert report["serial_time"] == pytest.approx(alone, rel=0.15)
    assert report["speedup"] == pytest.approx(alone / report["wall_time"], rel=0.15)
    assert report["speedup"] < 1.15
    assert report["contention"] > 1.6
    assert report["contention"] == pytest.approx(report["fragment_time"] / alone, rel=0.15)


@pytest.fixture(scope="module")
def on_two_cores(measured):
    """Four workers whose child processes compute.

    What those wait for a processor the kernel tells of the whole machine only, as a mean over its busy cores: with two
    cores both are as busy, whatever else runs. What runs beside takes part in the mean, though: where others compute
    for more than a tenth of the time, it is measured three times, and that with the least of it counts.
    """
    attempts = []
    while len(attempts) < 3 and all(share > 0.1 for share, _ in attempts):
        start, before = time.monotonic(), _used_by_others()
        found = measured(sorted(os.sched_getaffinity(0))[-2:], [("calls", "threads", 4), ("calls", "loky", 4)])
        attempts.append(((_used_by_others() - before) / (time.monotonic() - start), found))
    return min(attempts, key=lambda attempt: attempt[0])[1]


def _used_by_others():
    """Seconds that processors of this machine were busy for others than this process and its children."""
    all_told, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return all_told.user + all_told.system + all_told.nice - sum(own[:4])


@pytest.mark.parametrize("executor", ["threads", "loky"])
def test_twice_as_many_programs_as_cores_gain_no_more_than_cores(on_two_cores, executor):
    """Also where each is a process of its own."""
    report = on_two_cores[f"calls {executor} 4"]
    alone = FRAGMENTS * SECONDS
    assert report["serial_time"] == pytest.approx(alone, rel=0.25)
    assert report["speedup"] == pytest.approx(alone / report["wall_time"], rel=0.25)
    assert report["speedup"] < 2.3
    assert report["contention"] > 1.5


@pytest.mark.parametrize("program", ["spins", "calls"])
def test_serial_is_no_faster_than_itself(on_one_core, program):
    """Whatever the machine does besides."""
    report = on_one_core[f"{program} serial 1"]
    alone = FRAGMENTS * SECONDS
    assert report["serial_time"] == pytest.approx(alone, rel=0.15)
    assert report["speedup"] == pytest.approx(alone / report["wall_time"], rel=0.15)
    assert report["speedup"] < 1.05


def test_workers_that_wait_gain_all(measured):
    """Nobody waits for another who sleeps."""
    twice = [("sleeps", "threads", 4)] * 2  # what is imported the first time, they do wait for
    (report,) = measured(sorted(os.sched_getaffinity(0)), twice).values()
    assert 3 < report["speedup"] <= 4.01
    alone = FRAGMENTS * 3 * SECONDS
    assert report["serial_time"] == pytest.approx(alone, rel=0.1)
    assert report["contention"] == pytest.approx(report["fragment_time"] / alone, rel=0.1)
    assert report["contention"] < 1.3
