"""The report of a run whose figures are known beforehand."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import attrs
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mbexec
from mbexec import FragmentDone, LevelReport, RunReport, TaskError, TaskResult, hookimpl
from mbexec.core import recorder as recording
from mbexec.core.engine import read_job
from mbexec.core.recorder import HERE, Recorder
from tests.systems import argon

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs/run-report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
UNKNOWN = ["serial_time", "critical_path", "bound", "startup", "finishing", "idle", "imbalance"]


def tables(nfr=4, max_nbody=2, **run):
    return {
        "molecule": {"geometry": argon(nfr)},
        "mbe": {"bsse_type": "nocp", "max_nbody": max_nbody},
        "program": {"program": "model-potential", "method": "lj"},
        "run": {"executor": "serial", **run},
    }


TIMES = st.lists(st.floats(0.001, 100, allow_nan=False), min_size=10, max_size=10)


@settings(max_examples=30, deadline=None)
@given(TIMES, st.integers(1, 5), st.floats(0, 0.9), st.sampled_from(["cost", "nbody"]))
def test_known_in_closed_form(durations, workers, lost, schedule):
    """Serial time, critical path, bound, idle time, imbalance, levels: what the durations imply."""
    spec, config = read_job(tables(workers=workers, schedule=schedule), {})
    plan = mbexec.plan(spec)
    recorder = Recorder(plan, config, "f00d", workers)
    recorder.begin()
    stages = [range(4), range(4, 10)] if schedule == "nbody" else [range(10)]
    start, loads, spans = recorder.started, [0.0] * workers, 0.0
    for stage in stages:
        recorder.submit(workers)
        free = [0.0] * workers
        for index in stage:
            name = free.index(min(free))
            began = start + spans + free[name]
            free[name] += durations[index]
            loads[name] += durations[index]
            times = {"started": began, "ended": began + durations[index], "lost": lost * durations[index]}
            worker = f"{HERE}:1:{name}"
            recorder.record(plan[index], TaskResult(index, {"energy": 0.0}, worker=worker, **times), began)
        spans += max(free)
    report = recorder.report()
    near = {"rel": 1e-6, "abs": 1e-5}  # times since the epoch have a quarter of a microsecond
    alone = [(1 - lost) * duration for duration in durations]
    parts = [[alone[index] for index in stage] for stage in stages]
    assert report.serial_time == pytest.approx(sum(alone), **near)
    assert report.contention == pytest.approx(1 / (1 - lost), **near)
    assert report.critical_path == pytest.approx(sum(map(max, parts)), **near)
    assert report.bound == pytest.approx(sum(max(max(part), sum(part) / workers) for part in parts), **near)
    assert report.speedup == report.serial_time / report.wall_time
    assert report.efficiency == pytest.approx(report.speedup / workers, **near)
    assert report.startup == pytest.approx(0, abs=1e-5)
    assert report.idle == pytest.approx(workers * spans - sum(durations), **near)
    assert report.imbalance == pytest.approx(max(loads) * workers / sum(loads) - 1, **near)
    for level, part in zip(report.levels, [durations[:4], durations[4:]], strict=True):
        assert level.wall_time == pytest.approx(sum(part), **near)
        assert (level.shortest, level.longest) == pytest.approx((min(part), max(part)), **near)
        assert (level.executed, level.reused, level.failed) == (len(part), 0, 0)


@pytest.fixture
def recorder():
    """Of a plan of four monomers and six dimers on two workers, which were submitted together."""
    spec, config = read_job(tables(workers=2), {})
    recorder = Recorder(mbexec.plan(spec), config, "f00d", 2)
    recorder.begin()
    recorder.submit(2)
    return recorder


def result(index, began=0.0, seconds=1.0, **more):
    return TaskResult(index, {"energy": 0.0}, started=began, ended=began + seconds, **{"lost": 0.0, **more})


def times(recorder, found, queued=0.0):
    """When a fragment began and ended, as reporters are told."""
    task = recorder.plan[found.index]
    (done,) = [event for event in recorder.record(task, found, queued) if isinstance(event, FragmentDone)]
    return done.started, done.ended


def test_nothing_is_made_up(recorder):
    """A run in which nothing was computed has no speedup, and neither has one whose executor measured nothing."""
    empty = recorder.report()
    assert [getattr(empty, name) for name in UNKNOWN] == [None] * len(UNKNOWN)
    recorder.record(recorder.plan[0], result(0, recorder.started), recorder.started)
    recorder.record(recorder.plan[1], result(1, recorder.started, lost=None), recorder.started)
    unmeasured = recorder.report()
    known = {"startup", "finishing", "idle", "imbalance"}
    assert {name for name in UNKNOWN if getattr(unmeasured, name) is not None} == known


def test_a_killed_fragment_counts_until_its_end(recorder):
    """It could measure nothing any more; one after the other, it would have been killed after the same time."""
    killed = TaskError("resource_error", "It took longer than task.timeout = 2 s and was killed.")
    recorder.record(recorder.plan[0], result(0, recorder.started, 1.0), recorder.started)
    recorder.record(recorder.plan[1], result(1, recorder.started, 2.0, error=killed, lost=None), recorder.started)
    report = recorder.report()
    assert (report.serial_time, report.critical_path) == (3.0, 2.0)


def test_what_a_store_gives_is_in_no_sum(recorder):
    """It is counted by itself."""
    recorder.reuse(recorder.plan[0], result(0, 100.0, 50.0))
    recorder.record(recorder.plan[1], result(1, recorder.started, 2.0), recorder.started)
    report = recorder.report()
    assert (report.executed, report.reused, report.fragment_time, report.serial_time) == (1, 1, 2.0, 2.0)


def test_first_runs_of_those_that_ran_twice(recorder):
    """They are counted by themselves, since they gave no result."""
    recorder.retry(result(0, 100.0, 50.0))
    recorder.submit(1)
    recorder.record(recorder.plan[0], result(0, recorder.started, 2.0), recorder.started)
    report = recorder.report()
    assert (report.retried, report.retry_time, report.fragment_time) == (1, 50.0, 2.0)


def test_one_after_the_other_is_the_critical_path(recorder):
    """Fragments that run alone wait for all before them."""
    for index, seconds in enumerate([3.0, 4.0, 5.0]):
        recorder.record(recorder.plan[index], result(index, recorder.started, seconds), recorder.started)
    recorder.submit(1)
    for index, seconds in enumerate([1.0, 2.0], start=3):
        recorder.record(recorder.plan[index], result(index, recorder.started, seconds), recorder.started)
    report = recorder.report()
    assert (report.serial_time, report.critical_path, report.bound) == (15.0, 5.0 + 2.0, 12.0 / 2 + 3.0)


def test_our_own_clock_is_not_corrected(recorder):
    """Times of workers on this host stay to the bit."""
    here = f"{HERE}:1:1"
    assert times(recorder, result(0, 1e9, 1.0, worker=here), 2e9) == (1e9, 1e9 + 1.0)
    assert times(recorder, result(1, 1e9, 1.0), 2e9) == (1e9, 1e9 + 1.0)


def test_the_clock_of_another_host(recorder, monkeypatch):
    """It is set by what must be: no fragment begins before it was taken, or ends after its result was here."""
    now = 1000.0
    monkeypatch.setattr(recording, "time", SimpleNamespace(time=lambda: now, perf_counter=time.perf_counter))
    near = partial(pytest.approx, abs=1e-9)
    there, ahead = "there:1:1", "ahead:1:1"
    assert times(recorder, result(0, 990.0, 5.0, worker=there), 980.0) == near((990.0, 995.0))  # nothing against it
    assert times(recorder, result(1, 970.0, 5.0, worker=there), 975.0) == near((975.0, 980.0))  # 5 s late or more
    assert times(recorder, result(2, 980.0, 5.0, worker=there), 980.0) == near((985.0, 990.0))  # so from now on
    assert times(recorder, result(3, 1090.0, 5.0, worker=ahead), 980.0) == near((995.0, 1000.0))  # 95 s ahead or more
    assert times(recorder, result(4, 1080.0, 5.0, worker=ahead), 988.0) == near((986.5, 991.5))  # it drifts


def test_executors_tell_what_they_moved(install):
    """The engine asks when the run is done; most say nothing."""

    class Movers:
        def __init__(self):
            self.bytes_moved = 0, 0

        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                self.bytes_moved = self.bytes_moved[0] + 10, self.bytes_moved[1] + 20
                yield work(task)

    install("movers-executor", {"movers": Movers})
    assert mbexec.run(tables(), executor="movers").report.bytes_moved == (100, 200)
    assert mbexec.run(tables(), executor="serial").report.bytes_moved is None


def test_loky_tells_what_it_moved():
    """A few hundred bytes for a fragment, the context included."""
    found = mbexec.run(tables(16, 3), executor="loky").report
    sent, received = found.bytes_moved
    assert 10 * found.ntasks < sent < 300 * found.ntasks
    assert 10 * found.ntasks < received < 300 * found.ntasks


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky"])
def test_a_real_run(executor):
    """Everything is measured, and goes together."""
    report = mbexec.run(tables(8, 3), executor=executor, workers=2).report
    assert report.executed == report.ntasks == 92
    assert report.workers == (1 if executor == "serial" else 2)
    assert 0 < report.critical_path <= report.bound <= report.wall_time
    assert report.bound <= report.serial_time <= report.fragment_time
    assert 0 < report.speedup <= report.workers
    assert report.efficiency == report.speedup / report.workers
    assert 0 < report.startup < report.wall_time
    assert 0 < report.finishing < report.wall_time
    assert 0 <= report.idle <= report.workers * report.wall_time
    assert report.imbalance >= 0
    assert min(report.worker_memory, report.memory) > 10 * 2**20


@pytest.mark.parametrize("change", [{}, {"executor": "loky"}, {"max_nbody": 3, "nfr": 3}])
def test_json(change):
    """What the report says as JSON is what the published schema says, to the last key."""
    found = mbexec.run(tables(**change)).report.as_dict()
    VALIDATOR.validate(json.loads(json.dumps(found)))


def test_json_without_measurements(recorder):
    """What is not known is null."""
    found = json.loads(json.dumps(recorder.report().as_dict()))
    VALIDATOR.validate(found)
    assert [found[name] for name in (*UNKNOWN, "contention", "speedup", "efficiency")] == [None] * (len(UNKNOWN) + 3)


def test_the_schema_names_every_figure():
    """Each is required, explained, and there are no others."""
    report = RunReport("r", "serial", 1, 0.0, 0.0, ()).as_dict()
    level = attrs.fields_dict(LevelReport)
    for described, names in [(SCHEMA, report), (SCHEMA["$defs"]["level"], level)]:
        assert set(described["properties"]) == set(described["required"]) == set(names)
        assert described["additionalProperties"] is False
        assert all(entry.get("description") for entry in described["properties"].values())
