"""The reporter jsonl: the lines that it writes, and what it does where it can't."""

import json
import os
import subprocess
import sys
import threading
from importlib.metadata import version

import pytest
from structlog.testing import capture_logs

import mbexec
from mbexec import ConfigError, FragmentDone, FragmentStarted, hookimpl
from mbexec.core import engine
from mbexec.plugins import jsonl
from mbexec.plugins.jsonl import Jsonl, begins_as_record
from mbexec.reports import list_runs, read_record
from mbexec.testing.waiting import until
from tests.disks import small_disk
from tests.systems import argon, job

FAILING = "U 9 9 9\n--\n" + argon(3)  # no parameters for uranium


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.jsonl"


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own: a folder, and what mounts it otherwise."""
    with small_disk(tmp_path / "disk", "64k") as found:
        yield found


def run(path, geometry=None, **settings):
    """A run with a record; four argon atoms unless another geometry is given."""
    spec = job(geometry or argon(4), max_nbody=2)
    return mbexec.run(spec, **{"executor": "serial", "reporters": ["jsonl"], "plugin.jsonl.path": path, **settings})


def lines_of(path, event=None):
    found = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [line for line in found if event in (None, line["event"])]


def events_of(**settings):
    """The events of a run, as reporters are told them."""
    events = []
    spec, config = engine.read_job(job(argon(4), max_nbody=2), {"run.executor": "serial", **settings})
    engine.execute(spec, config, threading.Event(), events.append)
    return events


# What is written


def test_a_run_is_recorded_from_start_to_end(path):
    """A line for its start, for each result and level, and for its end; all with its name."""
    found = run(path)
    names = [line["event"] for line in lines_of(path)]
    assert names[0] == "run_started"
    assert names[-1] == "run_done"
    assert (names.count("fragment_done"), names.count("level_done")) == (len(found.plan), 2)
    assert {line["run_id"] for line in lines_of(path)} == {found.report.run_id}


def test_the_start_has_input_and_settings(path):
    """The many-body input as QCSchema, each setting and where it is from."""
    found = run(path, **{"task.ncores": 1, "task.2.memory": 2})
    (start,) = lines_of(path, "run_started")
    assert start["input"] == json.loads(found.plan.spec.serialize("json"))
    assert (start["executor"], start["workers"], start["mbexec"]) == ("serial", 1, version("mbexec"))
    assert start["levels"] == [[1, 4], [2, 6]]
    assert start["config"]["task"]["ncores"] == 1
    assert start["config"]["task"]["2"]["memory"] == 2
    assert start["config"]["plugin"]["jsonl"] == {"path": str(path)}
    assert start["config"]["sources"]["run.executor"] == "argument"
    assert start["versions"].keys() == {"python", "numpy", "qcelemental", "qcmanybody"}
    assert start["programs"] == {"model-potential": f"{version('mbexec')}, mbexec {version('mbexec')}"}


def test_a_result_is_written_to_the_last_bit(path):
    """What the event says of it, energies and times as they are."""
    events = []
    spec, config = engine.read_job(
        job(FAILING, max_nbody=2), {"run.executor": "serial", "reporters": ["jsonl"], "plugin.jsonl.path": path}
    )
    engine.execute(spec, config, threading.Event(), events.append)
    for event, line in zip(
        [event for event in events if isinstance(event, FragmentDone)], lines_of(path, "fragment_done"), strict=True
    ):
        task, result = event.task, event.result
        error = result.error
        assert line == {
            "event": "fragment_done",
            "run_id": line["run_id"],
            "index": task.index,
            "mc": task.mc,
            "frag": list(task.frag),
            "bas": list(task.bas),
            "nbody": task.nbody,
            "reused": False,
            "energy": result.values.get("energy"),
            "queued": event.queued,
            "started": event.started,
            "ended": event.ended,
            "wall_time": result.wall_time,
            "cpu_time": result.cpu_time,
            "lost": result.lost,
            "worker": result.worker,
            "peak_memory": result.peak_memory,
            "notes": list(result.notes),
            "error": error and {"error_type": error.error_type, "error_message": error.error_message},
        }
    assert [line["error"]["error_type"] for line in lines_of(path, "fragment_done") if line["error"]] == [
        "input_error"
    ] * 4


def test_strange_words_stay_json(path):
    """Quotes, line ends and letters beyond ASCII in messages and notes."""
    told = 'a "word"\nand Å'
    done = next(event for event in events_of() if isinstance(event, FragmentDone))
    with Jsonl(path) as reporter:
        reporter.report_metrics(FragmentDone(done.task, done.result.noted(told), reused=True))
    assert lines_of(path)[0]["notes"] == [told]
    assert lines_of(path)[0]["reused"] is True


def test_what_runs_is_there_before_it_ends(path):
    """A fragment that takes its time is in the file while it runs; a killed run tells of it."""
    start = events_of()[0]
    begun = FragmentStarted(start.plan[7], 5.0)
    with Jsonl(path) as reporter:
        reporter.report_metrics(start)
        reporter.report_metrics(begun)
        assert until(lambda: path.exists() and len(path.read_bytes().splitlines()) == 2, 10)
    (line,) = lines_of(path, "fragment_started")
    assert (line["index"], line["label"], line["time"]) == (begun.task.index, begun.task.label, begun.time)


def test_arrays_of_the_clusters_size_are_left_out(path):
    """Gradients are in the result's own file; energies are in the record."""
    spec = job(argon(3), driver="gradient", max_nbody=2)
    found = mbexec.run(spec, executor="serial", reporters=["jsonl"], **{"plugin.jsonl.path": path})
    properties = {name: value for name, value in found.result.properties.model_dump().items() if value is not None}
    (end,) = lines_of(path, "run_done")
    assert any("gradient" in name for name in properties)
    assert end["result"] == {
        "success": True,
        "properties": {name: value for name, value in properties.items() if "gradient" not in name},
    }


def test_a_failed_run_keeps_what_is_known(path):
    """The error, the exact sums and the estimates."""
    found = run(path, FAILING)
    error = found.result.error
    (end,) = lines_of(path, "run_done")
    assert end["result"]["success"] is False
    assert end["result"]["error"] == {
        "error_type": error.error_type,
        "error_message": error.error_message,
        "partial": json.loads(json.dumps(error.extras["partial"])),
    }


def test_runs_follow_each_other(path):
    """A later run goes on below the earlier ones."""
    ids = [run(path).report.run_id for _ in range(3)]
    assert [line["run_id"] for line in lines_of(path, "run_started")] == ids


def test_a_line_that_was_cut_off_is_left_behind(path):
    """The next run begins a line of its own."""
    run(path)
    path.write_bytes(path.read_bytes() + b'{"event":"fragm')
    found = run(path)
    assert path.read_bytes().count(b'\n{"event":"fragm\n{"event":"run_started"') == 1
    assert read_record(path).run_id == found.report.run_id


def test_two_runs_at_once_share_a_file(path):
    """Each line is whole, and each run's are all there."""
    script = (
        "import mbexec; from tests.systems import argon, job; "
        "mbexec.run(job(argon(16), max_nbody=2), executor='threads', workers=2, reporters=['jsonl'], "
        f"**{{'plugin.jsonl.path': {str(path)!r}}})"
    )
    root = os.path.dirname(os.path.dirname(__file__))
    processes = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], env={**os.environ, "PYTHONPATH": root})
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(lines_of(path, "fragment_done")) == 2 * (16 + 120)  # each line is JSON
    for each in list_runs(path):
        assert len(read_record(path, each.run_id).fragments) == 16 + 120


# Where it can't be written


PIECES = [
    "",
    "{",
    '{"event":"run_st',
    '{"event":"run_started","run_id":"f0',
    '\n{"event":"fragment_done","run_id":"f00d"',
]


@pytest.mark.parametrize("content", PIECES)
def test_what_is_a_record_is_gone_on_with(path, content):
    """An empty file, and what is left of a record whose first line was cut off."""
    path.write_text(content)
    run(path)
    assert path.read_text().startswith(content)
    assert begins_as_record(path)


STRANGERS = ["[molecule]\n", "SQLite format 3\0", '{"event": "run_started"}', "\0\xff", '{\n  "schema_name": ""}', "{}"]


@pytest.mark.parametrize("content", STRANGERS)
def test_another_file_is_refused_before_anything_runs(path, content):
    """It is left as it is."""
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match="is there and is no record of runs, so it is left as it is"):
        run(path)
    assert path.read_text(encoding="latin-1") == content


def test_what_is_no_file_is_refused(tmp_path):
    """Folders, pipes, and names in folders that are not there."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ConfigError, match="is no record of runs"):
            run(tmp_path / name)
    with pytest.raises(ConfigError, match=r"nowhere/job\.jsonl': its folder does not exist"):
        run(tmp_path / "nowhere" / "job.jsonl")


@pytest.mark.parametrize("given", ["", 7, "a\0b"])
def test_a_path_that_is_no_name_is_refused(given):
    """The message names it."""
    with pytest.raises(ConfigError, match=r"path = .* must be the name of a file"):
        run(given)


def test_a_store_made_meanwhile_is_not_written_to(path):
    """Store and record by one name: the store has it, the run ends as ever, and a warning says so once."""
    with capture_logs() as logs:
        found = run(path, store=path)
    assert found.result.success
    assert path.read_bytes().startswith(b"SQLite format 3")
    warnings = [log for log in logs if log["event"] == "record_not_written"]
    assert [log["why"] for log in warnings] == ["by now it is there and is no record of runs"]
    assert run(path.with_suffix(".other"), store=path).report.reused == len(found.plan)


def test_a_folder_that_cant_be_written_to_stops_no_run(disk):
    """It is told once; the result is the same."""
    folder, mount = disk
    mount("remount,ro")
    with capture_logs() as logs:
        found = run(folder / "job.jsonl")
    assert found.result.properties == run(folder.parent / "job.jsonl").result.properties
    assert [log["why"] for log in logs if log["event"] == "record_not_written"] == ["Read-only file system"]


def test_a_full_disk_stops_no_run(disk):
    """What is there is whole lines and a piece of one; it is told once."""
    folder, _ = disk
    (folder / "ballast").write_bytes(b"x" * 60 * 1024)
    with capture_logs() as logs:
        found = run(folder / "job.jsonl", argon(12))
    assert found.result.success
    assert len([log for log in logs if log["event"] == "record_not_written"]) == 1
    assert (folder / "job.jsonl").stat().st_size <= 4096


def test_what_could_not_be_written_is_written_when_there_is_room(disk, monkeypatch):
    """Lines are held; a piece of a line stays behind in a line of its own."""
    folder, _ = disk
    path, ballast = folder / "job.jsonl", folder / "ballast"
    monkeypatch.setattr(jsonl, "_REST", 0.0)
    ballast.write_bytes(b"x" * 60 * 1024)
    events = events_of()
    with capture_logs() as logs, Jsonl(path) as reporter:
        for event in events * 3:
            reporter.report_metrics(event)
        assert until(lambda: logs, 10)
        ballast.unlink()
    whole = [line for line in path.read_bytes().splitlines() if line.endswith(b"}") and line.startswith(b"{")]
    assert sum(b'"fragment_done"' in line for line in whole) == 3 * 10
    assert read_record(path).report is not None
    assert len(logs) == 1


def test_wherever_a_write_stops_each_line_is_there_once(path, monkeypatch):
    """Before a line, within, before its end, behind it; nothing is written at all."""
    events = [event for event in events_of() if isinstance(event, FragmentDone)][:3]
    monkeypatch.setattr(jsonl, "_REST", 0.0)
    with Jsonl(path) as reporter:
        for event in events:
            reporter.report_metrics(event)
    said, write = path.read_bytes(), os.write
    expected = [line for line in said.splitlines() if line]
    assert len(expected) == 3
    for cut in range(len(said)):
        path.unlink()
        cuts = [cut]
        monkeypatch.setattr(
            os, "write", lambda file, text, cuts=cuts: write(file, text[: cuts.pop() if cuts else None])
        )
        reporter = Jsonl(path)
        reporter._text += said
        with capture_logs():
            reporter._work(1)
            reporter._work(1)
        os.close(reporter._file)
        found = [line for line in path.read_bytes().splitlines() if line.startswith(b"{") and line.endswith(b"}")]
        assert found == expected, cut


def test_a_file_that_was_closed_stops_no_run(path):
    """Somebody closed every descriptor that was open."""
    first, *events = events_of()
    with capture_logs() as logs, Jsonl(path) as reporter:
        reporter.report_metrics(first)
        assert until(lambda: reporter._file is not None, 10)
        os.close(reporter._file)
        for event in events:
            reporter.report_metrics(event)
    assert [log["why"] for log in logs] == ["Bad file descriptor"]
    assert read_record(path).report is not None  # it was opened again


def test_a_thread_that_writes_for_long_holds_up_nobody(path, monkeypatch):
    """What comes meanwhile is noted, and written afterwards."""
    first, *events = events_of()
    begun, go_on, write = threading.Event(), threading.Event(), os.write

    def slow_write(file, text):
        begun.set()
        assert go_on.wait(30)
        return write(file, text)

    with Jsonl(path) as reporter:
        monkeypatch.setattr(os, "write", slow_write)
        reporter.report_metrics(first)
        assert begun.wait(10)
        for event in events * 10:
            reporter.report_metrics(event)
        go_on.set()
    assert len(lines_of(path, "fragment_done")) == 10 * 10
    assert lines_of(path)[-1]["event"] == "run_done"


def test_an_event_that_cant_be_put_in_words_is_left_out(path):
    """The others are written."""
    events = events_of()
    broken = FragmentDone(None, None, reused=False)
    with capture_logs() as logs, Jsonl(path) as reporter:
        for event in (
            events[0],
            *[FragmentDone(each.task, broken, False) for each in events if isinstance(each, FragmentDone)][:2],
            events[-1],
        ):
            reporter.report_metrics(event)
    assert [line["event"] for line in lines_of(path)] == ["run_started", "run_done"]
    assert len(logs) == 1


def test_nothing_is_left_of_a_run_that_never_began(path):
    """No file is made before the first event."""
    with Jsonl(path):
        pass
    assert not path.exists()


def test_no_thread_is_left(path):
    """The one that writes ends with the run."""
    before = threading.active_count()
    run(path)
    assert threading.active_count() == before


def test_a_run_with_words_that_json_lacks(path, install):
    """Settings of plugins may be anything."""

    class Odd:
        def __init__(self, things):
            pass

        @hookimpl
        def report_metrics(self, event):
            pass

    install("odd-reporter", {"odd": Odd})
    run(path, reporters=["odd", "jsonl"], **{"plugin.odd.things": {1, 2}})
    assert lines_of(path, "run_started")[0]["config"]["plugin"]["odd"] == {"things": "{1, 2}"}
