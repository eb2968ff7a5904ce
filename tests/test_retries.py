"""What becomes of fragments that fail: tried again, given other keywords, or the end of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import structlog

import mbexec
from mbexec import FragmentDone, FragmentHeld, InputError, hookimpl
from mbexec.core import program
from tests.systems import PYSCF, WATER_TRIMER, argon, job

EXECUTORS = ["serial", "threads", "asyncio", "loky", "dask", "parsl"]
TOY = {"program": "toy-potential", "method": "lj-atm"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """No waiting between attempts, in this process."""
    monkeypatch.setattr(program, "_BACKOFF", 0.0)


SOURCE = """
import os
import time
from pathlib import Path
from mbexec.core.potential import ModelPotential

class Fails(Exception):
    def __init__(self, error_type):
        super().__init__(f"it was to fail: {error_type}")
        self.error_type = error_type

class Stumbling(ModelPotential):
    name = "stumbling"

    def compute(self, input_data, config):
        keywords = input_data.specification.keywords
        fails = keywords["fails"]
        time.sleep(keywords.get("sleep", 0))
        folder = Path(keywords["folder"])
        (folder / f"running-{os.getpid()}-{id(input_data)}").touch()
        at_once = len(list(folder.glob("running-*")))
        with (folder / "calls").open("a") as calls:
            calls.write(f"{input_data.molecule.name};{keywords.get('rung', 0)};{at_once}\\n")
        mine = [line for line in (folder / "calls").read_text().splitlines()
                if line.startswith(input_data.molecule.name + ";")]
        try:
            if len(input_data.molecule.symbols) == 2 and len(mine) <= len(fails):
                raise Fails(fails[len(mine) - 1])
            plain = input_data.specification.model_copy(update={"keywords": {}})
            return super().compute(input_data.model_copy(update={"specification": plain}), config)
        finally:
            (folder / f"running-{os.getpid()}-{id(input_data)}").unlink()
"""


@pytest.fixture(autouse=True)
def _stumbling(install):
    """A program that fails as its keywords say: type of error by attempt, counted in a folder for each fragment."""
    install("stumbling-program", {"stumbling": "Stumbling"}, group="mbexec.programs", source=SOURCE)


def tables(folder: Path, *fails: str, nfr=3, **program):
    keywords = {"folder": str(folder), "fails": list(fails)}
    return job(
        argon(nfr), max_nbody=2, program={"program": "stumbling", "method": "lj-atm", "keywords": keywords, **program}
    )


def attempts(folder: Path):
    """How often each fragment was tried, most first."""
    names = [line.split(";")[0] for line in (folder / "calls").read_text().splitlines()]
    return sorted((names.count(name) for name in set(names)), reverse=True)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_random_error_is_tried_again_alone(tmp_path, executor):
    """Once more when everything else has ended, on every executor, one fragment at a time."""
    with structlog.testing.capture_logs() as logs:
        found = mbexec.run(tables(tmp_path, *["random_error"]), executor=executor, workers=2)
    assert found.result.success
    assert found.result.return_result == mbexec.run(job(argon(3), max_nbody=2)).result.return_result
    assert attempts(tmp_path) == [2, 2, 2, 1, 1, 1]
    last = (tmp_path / "calls").read_text().splitlines()[-3:]
    assert all(line.endswith(";1") for line in last)
    (said,) = [log for log in logs if log["event"] == "fragments_run_again"]
    assert len(said["labels"]) == 3


class Watching:
    """A reporter that keeps every event."""

    events: ClassVar[list] = []

    @hookimpl
    def report_metrics(self, event):
        self.events.append(event)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_fragment_that_is_tried_again_is_told_of(tmp_path, install, executor):
    """Its first run ends with an event of its own, before it is done, so that nobody takes it for one that runs."""
    install("watching-reporter", {"watching": Watching})
    Watching.events.clear()
    found = mbexec.run(tables(tmp_path, *["random_error"]), executor=executor, workers=2, reporters=["watching"])
    held = [event for event in Watching.events if isinstance(event, FragmentHeld)]
    done = {event.task.index: event for event in Watching.events if isinstance(event, FragmentDone)}
    assert sorted(event.task.nbody for event in held) == [2, 2, 2]
    for event in held:
        after = done[event.task.index]
        assert Watching.events.index(event) < Watching.events.index(after)
        assert event.result.error.error_type == "random_error"
        assert event.started <= event.ended <= after.started
    assert found.report.retried == 3


@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_retries_come_first(tmp_path, executor):
    """task.retries further attempts at once, in the worker; then one alone; then it has failed."""
    found = mbexec.run(tables(tmp_path, *["random_error"] * 9, nfr=2), executor=executor, **{"task.retries": 1})
    assert attempts(tmp_path) == [4, 1, 1]
    assert found.result.error.error_type == "random_error"
    assert found.report.failed == 1


@pytest.mark.parametrize("error_type", ["input_error", "unknown_error", "resource_error", "convergence_error"])
def test_other_errors_are_not_tried_again(tmp_path, error_type):
    """The same input would fail in the same way."""
    found = mbexec.run(tables(tmp_path, *[error_type]), executor="serial", **{"task.retries": 3})
    assert not found.result.success
    assert attempts(tmp_path) == [1] * 6


def test_attempts_wait_longer_and_longer(monkeypatch, tmp_path):
    """Half a second, one, two: what was wrong may have passed by then."""
    waited = []
    monkeypatch.setattr(program.Programs, "_rest", lambda self, seconds: waited.append(seconds))
    monkeypatch.setattr(program, "_BACKOFF", 0.5)
    assert mbexec.run(
        tables(tmp_path, *["random_error"] * 3, nfr=2), executor="serial", **{"task.retries": 3}
    ).result.success
    assert waited == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_fragment_climbs_its_ladder(tmp_path, executor):
    """What does not converge as given is tried with the keywords of each rung in turn; a note says which one did."""
    ladder = [{"rung": 1}, {"rung": 2}, {"rung": 3}]
    with structlog.testing.capture_logs() as logs:
        found = mbexec.run(
            tables(tmp_path, *["convergence_error", "convergence_error"], nfr=2, ladder=ladder), executor=executor
        )
    assert found.result.success
    rungs = [line.split(";")[1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert sorted(rungs) == ["0", "0", "0", "1", "2"]
    (note,) = [log["note"] for log in logs if log["event"] == "fragment_note"]
    changed = {"folder": str(tmp_path), "fails": ["convergence_error"] * 2, "rung": 2}
    ((label, said),) = found.result.extras["mbexec"]["notes"].items()
    assert (label, said) == ('["(auto)", [1, 2], [1, 2]]', [note])
    assert note == f"It did not converge as given, but on rung 2 of its ladder, with {changed!r}."


def test_each_rung_has_the_time_of_an_attempt(tmp_path):
    """Two rungs of a second each are no more than one and a half."""
    ladder = [{"sleep": 1.0}, {"sleep": 1.0, "rung": 2}]
    given = tables(tmp_path, *["convergence_error"] * 2, nfr=2, ladder=ladder)
    found = mbexec.run(given, executor="loky", **{"task.timeout": 1.5})
    assert found.result.success
    assert attempts(tmp_path) == [3, 1, 1]


def test_other_errors_end_the_climb(tmp_path):
    """The ladder is for what does not converge."""
    found = mbexec.run(
        tables(tmp_path, *["convergence_error", "input_error"], nfr=2, ladder=[{"rung": 1}, {"rung": 2}]),
        executor="serial",
    )
    assert found.result.error.error_type == "input_error"
    assert attempts(tmp_path) == [2, 1, 1]


def test_the_end_of_the_ladder(tmp_path):
    """The last rung's error is the fragment's."""
    found = mbexec.run(
        tables(tmp_path, *["convergence_error"] * 3, nfr=2, ladder=[{"rung": 1}, {"rung": 2}]), executor="serial"
    )
    assert found.result.error.error_type == "convergence_error"
    assert attempts(tmp_path) == [3, 1, 1]


def test_the_body_says_which_keywords_it_was(tmp_path):
    """In the result, the fragment's input is the one that converged."""
    given = tables(tmp_path, *["convergence_error"], nfr=2, ladder=[{"rung": 1}])
    given["mbe"]["cluster_results"] = "all"
    found = mbexec.run(given, executor="serial").result
    (pair,) = [body for label, body in found.cluster_results.items() if "[1, 2]]" in label]
    assert pair.input_data.specification.keywords == {}  # as the toy wrote it
    assert "ladder" not in json.dumps(pair.input_data.specification.extras)


@pytest.mark.parametrize(
    ("ladder", "shown"),
    [("more", "'more'"), ([5], "[5]"), ([{}], "[{}]"), ({"max_cycle": 9}, "{'max_cycle': 9}")],
    ids=["text", "numbers", "empty rung", "table"],
)
def test_what_is_no_ladder(ladder, shown):
    """In a job file and in QCSchema."""
    allowed = "a list of tables of keywords, such as [{max_cycle = 200}]"
    with pytest.raises(InputError) as error:
        mbexec.plan(job(argon(2), program={**TOY, "ladder": ladder}))
    assert str(error.value) == f"the input: program.ladder = {shown} must be {allowed}."
    spec = json.loads(mbexec.plan(job(argon(2))).spec.serialize("json"))
    spec["specification"]["specification"]["(auto)"]["extras"] = {"mbexec": {"ladder": ladder}}
    with pytest.raises(InputError) as error:
        mbexec.plan(spec)
    place = "specification.specification['(auto)'].extras['mbexec']['ladder']"
    assert str(error.value) == f"{place} = {shown} must be {allowed}."


def test_what_else_is_no_ladder():
    """Only the ladder is known there."""
    spec = json.loads(mbexec.plan(job(argon(2))).spec.serialize("json"))
    spec["specification"]["specification"]["(auto)"]["extras"] = {"mbexec": {"rungs": []}}
    with pytest.raises(InputError) as error:
        mbexec.plan(spec)
    place = "specification.specification['(auto)'].extras['mbexec']"
    assert str(error.value) == f"{place} = {{'rungs': []}} must be a table; the only key that is known is ladder."


def test_extras_that_are_no_table():
    """QCElemental lets anything stand there."""
    spec = json.loads(mbexec.plan(job(argon(2))).spec.serialize("json"))
    spec["specification"]["specification"]["(auto)"]["extras"] = 3
    with pytest.raises(InputError, match=r"^specification.specification\['\(auto\)'\].extras = 3 must be a table\.$"):
        mbexec.plan(spec)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_on_error_stop(executor):
    """After the first failed fragment nothing new starts; what runs is finished and counted."""
    given = job(argon(7), max_nbody=3, program={**TOY, "keywords": {"fail": "input_error"}})
    found = mbexec.run(given, executor=executor, workers=2, on_error="stop")
    assert not found.result.success
    most = 4 * 8 if executor in ("dask", "parsl") else 2 * 2 * 2  # messages on their way, of short tasks, are finished
    assert 1 <= found.report.failed <= most < len(found.plan)


def test_on_error_continue():
    """The default: everything runs, and all failures are told together."""
    given = job(argon(4), max_nbody=2, program={**TOY, "keywords": {"fail": "input_error"}})
    assert mbexec.run(given, executor="serial").report.failed == 10


def test_a_stopped_run_keeps_what_it_has(install):
    """Failures that were held back for another attempt are told when nothing new may start."""
    given = job(argon(4), max_nbody=2, program={**TOY, "keywords": {"fail": "random_error"}})

    class Stopping:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                result = work(task)
                if task.index == 0:
                    result = mbexec.TaskResult(0, error=mbexec.TaskError("input_error", "no"))
                yield result

    install("stopping-executor", {"stopping": Stopping})
    found = mbexec.run(given, executor="stopping", on_error="stop")
    assert found.report.failed == 7  # six pairs, held back, and the first atom


@pytest.mark.qc
@pytest.mark.parametrize("executor", ["threads", "loky"])
def test_a_real_scf_that_does_not_converge(executor):
    """PySCF with three iterations fails; with a ladder the run's result is that of enough iterations."""
    given = {**PYSCF, "basis": "sto-3g"}
    few = {**given, "keywords": {"max_cycle": 3}}
    failed = mbexec.run(job(WATER_TRIMER, program=few, max_nbody=2), executor=executor, workers=2)
    assert failed.result.error.error_type == "convergence_error"
    climbed = mbexec.run(
        job(WATER_TRIMER, program={**few, "ladder": [{"max_cycle": 4}, {"max_cycle": 50}]}, max_nbody=2),
        executor=executor,
        workers=2,
    )
    enough = mbexec.run(
        job(WATER_TRIMER, program={**given, "keywords": {"max_cycle": 50}}, max_nbody=2), executor=executor, workers=2
    )
    assert climbed.result.return_result == enough.result.return_result


HUNGRY = """
import os, subprocess, sys
from mbexec.core.potential import ModelPotential

# The first three have their memory at the same time; whoever runs again holds it for a moment only.
EAT = '''
import os, sys, tempfile, time
folder = sys.argv[1]
others = len(os.listdir(folder))
tempfile.mkstemp(dir=folder)
while len(os.listdir(folder)) < 3:
    time.sleep(0.01)
x = bytearray(500_000_000)
x[::4096] = b"1" * len(x[::4096])
time.sleep(0 if others >= 3 else 2)
'''

class Hungry(ModelPotential):
    name = "hungry"

    def compute(self, input_data, config):
        done = subprocess.run([sys.executable, "-S", "-c", EAT, os.environ["BEGUN"]])
        if done.returncode:
            raise RuntimeError(f"the program ended with code {done.returncode}")
        return super().compute(input_data, config)
"""
ATOMS = """
import sys
import mbexec

tables = {
    "molecule": {"geometry": "Ar 0 0 0\\n--\\nAr 0 0 4\\n--\\nAr 0 4 0"},
    "mbe": {"bsse_type": "nocp", "max_nbody": 1, "return_total_data": True},
    "program": {"program": "hungry", "method": "lj-atm"},
}
found = mbexec.run(tables, executor=sys.argv[1], workers=3, **{"task.memory": 0.4})
print(found.result.success, found.report.failed)
"""


def wait_until_empty(group: Path):
    """Until the last process has left a control group: nothing of a run outlives it for long."""
    patience = time.monotonic() + 20
    while (group / "cgroup.procs").read_text():
        assert time.monotonic() < patience, (group / "cgroup.procs").read_text()
        time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups are made by root")
@pytest.mark.parametrize("executor", ["threads", "loky"])
def test_a_program_that_is_killed_for_memory_runs_again_alone(install, tmp_path, executor):
    """Three programs at once are too much for their control group; one after the other they are not."""
    site = install("hungry-program", {"hungry": "Hungry"}, group="mbexec.programs", source=HUNGRY)
    group = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").is_dir() else Path("/sys/fs/cgroup")
    own = group / f"mbexec-test-{os.getpid()}"
    own.mkdir()
    begun = tmp_path / "begun"
    begun.mkdir()
    try:
        limit = own / ("memory.limit_in_bytes" if (own / "memory.limit_in_bytes").exists() else "memory.max")
        limit.write_text("1300000000")
        command = f'echo $$ > {own}/cgroup.procs; exec "$0" "$@"'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, "-c", ATOMS, executor],
            env={**os.environ, "PYTHONPATH": str(site), "BEGUN": str(begun)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        *log, said = done.stdout.splitlines()
        assert said == "True 0", done.stdout + done.stderr
        assert any("fragments_run_again" in line for line in log)
    finally:
        wait_until_empty(own)
        own.rmdir()
