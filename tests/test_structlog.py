"""The structlog reporter, and how the command line logs."""

import json
import os
import subprocess

import attrs
import pytest
from structlog.testing import capture_logs

import mbexec
from mbexec import FragmentHeld, FragmentStarted, LevelReport, RunDone, RunReport, RunStarted, TaskError, TaskResult
from mbexec.plugins.structlog import Structlog
from tests.commands import COMMAND
from tests.systems import argon, job


@pytest.fixture
def uranium():
    """A job whose second fragment, and each pair with it, fails: the model potential has no parameters for it."""
    return job("Ar 0 0 0\n--\nU 0 0 4\n--\nAr 0 0 8", max_nbody=2, run={"executor": "serial"})


@pytest.fixture
def logs(uranium):
    """What is logged of a run, and the run."""
    with capture_logs() as logged:
        found = mbexec.run(uranium, reporters=["structlog"], schedule="nbody")
    return logged, found


def test_it_logs_events(logs):
    """Fixed names, data as keys, the run's id on each; fragments at debug level unless they fail."""
    logs, found = logs
    assert {log.pop("run_id") for log in logs} == {found.report.run_id}
    logs = [log for log in logs if log["event"] != "fragment_started"]
    assert [log["event"] for log in logs] == [
        "run_started",
        *("level_started", "fragment_done", "fragment_failed", "fragment_done", "level_done"),
        *("level_started", "fragment_failed", "fragment_done", "fragment_failed", "level_done"),
        "run_done",
    ]
    assert logs[0] == {"event": "run_started", "log_level": "info", "executor": "serial", "workers": 1, "ntasks": 6}
    assert logs[2]["log_level"] == "debug"
    assert (logs[3]["log_level"], logs[3]["label"]) == ("warning", '["(auto)", [2], [2]]')
    assert logs[3]["error_type"] == "input_error"
    done = {
        "event": "level_done",
        "log_level": "info",
        "nbody": 1,
        "ntasks": 3,
        "executed": 3,
        "reused": 0,
        "failed": 1,
    }
    assert done.items() <= logs[5].items()


def test_the_last_line_says_it_all(logs):
    """Every figure of the report that was measured, to the digits shown, and whether there is a result."""
    logs, found = logs
    last = logs[-1]
    report = found.report.as_dict()
    assert (last["event"], last["log_level"], last["success"]) == ("run_done", "info", False)
    assert (last["executed"], last["reused"], last["failed"], last["retried"]) == (6, 0, 3, 0)
    figures = {name for name, value in report.items() if value is not None} - {"levels", "started"}
    assert last.keys() - {"event", "log_level", "success"} == figures
    for name in figures - {"run_id"}:
        assert last[name] == pytest.approx(report[name], abs=1e-6)
    assert {"speedup", "efficiency", "contention", "critical_path", "wall_time"} <= figures


def test_what_was_not_measured_has_no_key():
    """Rather than a made-up value."""
    level = LevelReport(1, 2, 0, 2, 0, 0.0, 0.0, None, None, None)
    report = RunReport("f00d", "serial", 1, 0.0, 1.0, (level,))
    found = mbexec.run(job(argon(2)))
    with capture_logs() as logs:
        Structlog().report_metrics(RunDone(report, found.result))
    assert logs[0]["success"] is True
    assert (logs[0]["executed"], logs[0]["reused"]) == (0, 2)
    assert {"speedup", "efficiency", "contention", "critical_path", "serial_time", "startup"}.isdisjoint(logs[0])
    assert None not in logs[0].values()


def test_a_fragment_that_runs_again_is_logged(tables):
    """With what it said the first time."""
    task = next(iter(mbexec.plan(tables)))
    result = TaskResult(0, error=TaskError("random_error", "no memory"))
    with capture_logs() as logs:
        Structlog().report_metrics(FragmentHeld(task, result, 1.0, 2.0))
    assert logs == [
        {
            "event": "fragment_held",
            "log_level": "info",
            "label": task.label,
            "error_type": "random_error",
            "error_message": "no memory",
        }
    ]


def test_without_a_configuration(tables, capsys):
    """Lines on standard error, away from results."""
    mbexec.run(tables, reporters=["structlog"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "run_done" in printed.err


def test_every_event_of_a_run_has_the_run_on_it():
    """Also what comes before the first fragment is done."""
    assert {"run_id"} <= {field.name for field in attrs.fields(RunStarted)}
    found = mbexec.plan(job(argon(2)))
    with capture_logs() as logs:
        reporter = Structlog()
        reporter.report_metrics(RunStarted("f00d", "serial", 1, ((1, 2),), found, None, None))
        reporter.report_metrics(FragmentStarted(found[0], 1.0))
    assert [log["run_id"] for log in logs] == ["f00d", "f00d"]
    began = {"event": "fragment_started", "log_level": "debug", "label": found[0].label, "run_id": "f00d"}
    assert logs[-1] == began


def _said(tmp_path, **streams):
    path = tmp_path / "job.toml"
    path.write_text(
        f'[molecule]\ngeometry = """\n{argon(2)}\n"""\n[program]\nprogram = "model-potential"\nmethod = "lj"\n'
        '[run]\nreporters = "structlog"\nexecutor = "serial"\n'
    )
    return subprocess.run([*COMMAND, "run", path, "--no-store"], stdout=subprocess.DEVNULL, check=True, **streams)


def test_a_command_logs_json_into_a_file(tmp_path):
    """A line each, every one with the run's id and a time."""
    with (tmp_path / "log").open("w") as log:
        _said(tmp_path, stderr=log)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len({line["run_id"] for line in lines}) == 1
    assert [line["event"] for line in lines[:1] + lines[-1:]] == ["run_started", "run_done"]
    assert all(line["level"] == "info" and line["timestamp"] for line in lines)


def test_a_command_logs_lines_for_people_on_a_terminal(tmp_path):
    """Not JSON."""
    ours, theirs = os.openpty()
    try:
        _said(tmp_path, stderr=theirs)
        os.close(theirs)
        seen = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert "run_started" in seen
    assert '{"' not in seen
