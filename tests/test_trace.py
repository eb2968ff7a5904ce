"""The trace reporter: a file in the trace-event format whose lanes don't overlap."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mbexec
from mbexec import ConfigError, FragmentDone, FragmentHeld, RunStarted, Task, TaskError, TaskResult
from mbexec.plugins.trace import Trace
from tests.systems import argon, job

RESOLUTION = 1e-3  # us; times are written to as much
KEYS = {  # of the trace-event format: what each kind of event must have, and of which type
    "X": {
        "name": str,
        "ph": str,
        "pid": int,
        "tid": int,
        "ts": (int, float),
        "dur": (int, float),
        "cat": str,
        "args": dict,
    },
    "M": {"name": str, "ph": str, "pid": int, "tid": int, "args": dict},
}
METADATA = {"process_name": ("name", str), "thread_name": ("name", str), "process_sort_index": ("sort_index", int)}
METADATA["thread_sort_index"] = METADATA["process_sort_index"]


def valid(events):
    """Events that keep the rules of the format; the pieces of each lane."""
    lanes, named = {}, set()
    assert isinstance(events, list)
    for event in events:
        for key, kind in KEYS[event["ph"]].items():
            assert isinstance(event[key], kind), (key, event)
            assert not isinstance(event[key], bool)
        lane = event["pid"], event["tid"]
        if event["ph"] == "M":
            key, kind = METADATA[event["name"]]
            assert isinstance(event["args"][key], kind)
            named.add(lane)
        else:
            assert lane in named, "a lane is named before it is used"
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            lanes.setdefault(lane, []).append(event)
    for pieces in lanes.values():
        pieces.sort(key=lambda event: (event["ts"], event["ts"] + event["dur"]))
        for one, next_one in pairwise(pieces):
            assert one["ts"] + one["dur"] <= next_one["ts"] + RESOLUTION
    return lanes


def read(path="trace.json"):
    return json.loads(Path(path).read_text())


def fragments(lanes):
    return [event for pieces in lanes.values() for event in pieces if event["cat"] != "run"]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky"])
def test_each_fragment_is_in_a_lane(executor):
    """Once, with its label, energy and times, on every executor; lanes of a run's workers, no more than there are."""
    started = time.time()
    found = mbexec.run(job(argon(5), max_nbody=2), executor=executor, workers=2, reporters=["trace"])
    lanes = valid(read())
    pieces = {event["args"]["label"]: event for event in fragments(lanes)}
    assert len(pieces) == len(fragments(lanes)) == len(found.plan) == 15
    for task, energy in zip(found.plan, found.energies, strict=True):
        piece = pieces[task.label]
        assert piece["args"]["energy"] == energy
        assert piece["args"]["nbody"] == task.nbody
        assert piece["args"]["cpu"] >= 0
        assert piece["args"]["lost"] >= 0
        assert piece["name"] == "-".join(map(str, task.frag))
        assert piece["ts"] + piece["dur"] <= 1e6 * (time.time() - started)
    assert 1 <= len(lanes) - 1 <= 2
    (run,) = [event for event in read() if event.get("cat") == "run"]
    assert run["args"]["executed"] == 15
    assert run["dur"] == pytest.approx(1e6 * found.report.wall_time, abs=1)


def test_lanes_are_named_and_sorted():
    """By worker, one after the other, and processes by host."""
    mbexec.run(job(argon(4)), executor="threads", workers=2, reporters=["trace"])
    names = {(e["pid"], e["tid"], e["name"]): e["args"] for e in read() if e["ph"] == "M"}
    assert names[1, 1, "thread_name"] == {"name": "run"}
    assert names[2, 1, "thread_name"]["name"].startswith("worker 1 (")
    for (process, thread, what), told in names.items():
        if what.endswith("sort_index"):
            assert told["sort_index"] == (thread if what.startswith("thread") else process)


def test_runs_of_a_fragment_that_are_put_to_the_vote_do_not_overlap():
    """Of several runs, one is shown; its result comes late, when others of its lane have been shown already."""
    mbexec.run(
        job(argon(5), max_nbody=2), executor="asyncio", workers=3, reporters=["trace"], **{"plugin.asyncio.repeat": 3}
    )
    assert len(fragments(valid(read()))) == 15


def test_a_failure_says_what_failed():
    """In its arguments, and by its colour."""
    mbexec.run(job("Ar 0 0 0\n--\nU 0 0 4", max_nbody=1), executor="serial", reporters=["trace"])
    failed = [event for event in fragments(valid(read())) if event["cat"] == "failed"]
    assert [event["args"]["label"] for event in failed] == ['["(auto)", [2], [2]]']
    assert failed[0]["args"]["error"].startswith("input_error: The model potential lacks parameters")
    assert failed[0]["cname"] == "terrible"
    assert "energy" not in failed[0]["args"]


def test_what_a_store_gave_took_no_time():
    """It is in no lane."""
    tables = job(argon(3))
    mbexec.run(tables, executor="serial", store="kept.store")
    found = mbexec.run(tables, executor="serial", store="kept.store", reporters=["trace"])
    assert found.report.reused == 7
    assert fragments(valid(read())) == []


# A reporter by itself


def _trace(path, pieces, *, left=False):
    """Write a trace of (worker, start, end) in seconds since the run began; `left` to leave it as a kill does."""
    reporter = Trace(path=path)
    reporter.__enter__()
    reporter.report_metrics(RunStarted("f00d", "x", 2, (), None, None, None))
    zero = reporter._began
    for index, (worker, start, end) in enumerate(pieces):
        task = Task(index, "(auto)", (index + 1,), (1, 2))
        result = TaskResult(index, {"energy": -1.0}, None, 0.0, 0.0, 0.1, worker)
        reporter.report_metrics(FragmentDone(task, result, False, 0.0, zero + start, zero + end))
    if not left:
        reporter.__exit__(None, None, None)
    return reporter


times = st.floats(-1, 100)


@given(
    pieces=st.lists(st.tuples(st.sampled_from(["a:1:1", "a:1:2", "b:1:1", ""]), times, st.floats(0, 10)), max_size=30)
)
def test_lanes_never_overlap(tmp_path_factory, pieces):
    """Whatever the clocks of workers say, and in whatever order results come."""
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    _trace(path, [(worker, start, start + length) for worker, start, length in pieces])
    lanes = valid(read(path))
    assert len(fragments(lanes)) == len(pieces)
    assert len(lanes) == len({worker for worker, *_ in pieces})


def test_pieces_that_fit_are_left_as_they_are(tmp_path):
    """Out of order too, to a thousandth of a microsecond; only what overlaps is cut, and hosts are processes."""
    path = tmp_path / "trace.json"
    _trace(path, [("a:1:1", 3, 4), ("a:1:1", 1, 2), ("a:1:1", 1.5, 3.5), ("b:1:1", 1, 9)])
    lanes = valid(read(path))
    assert {lane: [event["name"] for event in pieces] for lane, pieces in lanes.items()} == {
        (2, 1): ["2@1-2", "3@1-2", "1@1-2"],
        (3, 2): ["4@1-2"],
    }
    found = [(event["ts"], event["dur"]) for pieces in lanes.values() for event in pieces]
    expected = [(1e6, 1e6), (2e6, 1e6), (3e6, 1e6), (1e6, 8e6)]
    assert found == [pytest.approx(each, abs=1) for each in expected]


def test_a_first_run_that_is_not_taken_is_shown(tmp_path):
    """It took a worker's time."""
    path = tmp_path / "trace.json"
    reporter = _trace(path, [], left=True)
    result = TaskResult(0, error=TaskError("random_error", "no memory"), worker="a:1:1")
    reporter.report_metrics(FragmentHeld(Task(0, "x", (1,), (1,)), result, reporter._began + 1, reporter._began + 2))
    reporter.__exit__(None, None, None)
    (piece,) = fragments(valid(read(path)))
    assert piece["cat"] == "run again later"
    assert piece["args"]["error"] == "random_error: no memory"


def test_a_run_that_is_killed_leaves_a_file_that_opens(tmp_path):
    """Every event that was written is there; only the closing bracket lacks, as the format allows."""
    path = tmp_path / "trace.json"
    reporter = _trace(path, [("a:1:1", 1, 2), ("a:1:1", 2, 3)], left=True)
    text = path.read_text()
    assert len(fragments(valid(json.loads(text + "]")))) == 2
    reporter.__exit__(None, None, None)


def test_a_run_that_breaks_off_leaves_valid_json(tmp_path):
    """Also right after its start."""
    path = tmp_path / "trace.json"
    with Trace(path=path) as reporter:
        reporter.report_metrics(RunStarted("f00d", "x", 2, (), None, None, None))
    assert fragments(valid(read(path))) == []
    _trace(path, [("a:1:1", 1, 2)])
    assert len(fragments(valid(read(path)))) == 1


def test_an_earlier_trace_is_replaced(tables):
    """By that of the next run."""
    for _ in range(2):
        mbexec.run(tables, reporters=["trace"])
        assert len(fragments(valid(read()))) == 6


def test_a_run_that_never_starts_leaves_an_earlier_trace(tables, tmp_path):
    """It is refused once reporters are there already; where there was no trace, none is left."""
    mbexec.run(tables, reporters=["trace"])
    before = (tmp_path / "trace.json").read_bytes()
    unknown = job(argon(3), program={"program": "nobody", "method": "x"})
    for path in ("trace.json", "new.json"):
        with pytest.raises(mbexec.MbexecError, match="nobody"):
            mbexec.run(unknown, reporters=["trace"], **{"plugin.trace.path": path})
    assert (tmp_path / "trace.json").read_bytes() == before
    assert not (tmp_path / "new.json").exists()


def test_no_other_file_is_replaced(tables, tmp_path):
    """Such as the job."""
    (tmp_path / "job.toml").write_text("[molecule]")
    with pytest.raises(ConfigError) as error:
        mbexec.run(tables, reporters=["trace"], **{"plugin.trace.path": "job.toml"})
    path = str(tmp_path / "job.toml")
    assert str(error.value) == f"plugin.trace.path: {path!r} is there already and no trace; give another name."
    assert (tmp_path / "job.toml").read_text() == "[molecule]"


def test_a_file_that_cannot_be_written(tables, tmp_path):
    """It is said before anything runs."""
    with pytest.raises(ConfigError) as error:
        mbexec.run(tables, reporters=["trace"], **{"plugin.trace.path": "nowhere/trace.json"})
    assert (
        str(error.value) == f"The trace can't be written to {tmp_path}/nowhere/trace.json: No such file or directory."
    )


@pytest.mark.parametrize("path", [3, ""])
def test_a_path_that_is_none(tables, path):
    """It is named."""
    with pytest.raises(ConfigError, match=rf"path = {path!r} must be text"):
        mbexec.run(tables, reporters=["trace"], **{"plugin.trace.path": path})
