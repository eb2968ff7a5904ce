"""The store sqlite: what it keeps and how, what it refuses, and that it works wherever a run does."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import attrs
import hypothesis.extra.numpy as hnp
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import mbexec
from mbexec import ConfigError, Task, TaskError, TaskResult
from mbexec.plugins.sqlite import Sqlite
from mbexec.plugins.sqlite.opening import check_is_store
from mbexec.plugins.sqlite.rows import read, written
from mbexec.testing import STORE_RULES
from tests.stores import asked, bits, check, events, fill, keep, made
from tests.systems import argon, job

ROOT = Path(__file__).parents[1]
TASK = Task(3, "(auto)", (1, 2), (1, 2, 3))


class Partition(NamedTuple):
    """What psutil says of a file system."""

    mountpoint: str
    fstype: str


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.store"


@pytest.fixture
def on_nfs(tmp_path, monkeypatch):
    """The test's folder looks like one on a network file system."""
    found = [Partition("/", "ext4"), Partition(str(tmp_path.resolve()), "nfs4"), Partition("/proc", "proc")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)  # noqa: A006


def executed(found):
    return [level.executed for level in found.report.levels]


# Rows

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=FLOATS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.floats(0.0, 1e10)


@settings(deadline=None)
@given(
    values=st.dictionaries(st.sampled_from(["energy", "gradient", "dipole"]), st.one_of(FLOATS, ARRAYS)).filter(
        lambda values: isinstance(values.get("energy", 0.0), float)
    ),
    error=st.none() | st.builds(TaskError, TEXTS, TEXTS),
    times=st.tuples(TIMES, TIMES, TIMES),
    body=st.none() | st.binary(),
    notes=st.lists(TEXTS).map(tuple),
    output=TEXTS,
    step=st.integers(0, 5),
)
def test_a_result_comes_back_to_the_last_bit(values, error, times, body, notes, output, step):
    """Whatever numbers and words it has; all types stay what they were."""
    started, ended, cpu = times
    result = TaskResult(3, values, error, started, ended, cpu, "host:1:2", body, notes, output, step)
    back = read(written(TASK, "key", result), 3)
    assert bits(back) == bits(result)
    assert [type(value) for value in back.values.values()] == [type(value) for value in values.values()]


@settings(deadline=None, max_examples=25)
@given(result=st.builds(TaskResult, st.just(3), st.fixed_dictionaries({"energy": FLOATS})))
def test_numbers_survive_the_file(result, tmp_path_factory):
    """Also those that SQLite knows no difference between, such as 0.0 and -0.0, 1 and 1.0."""
    path = tmp_path_factory.mktemp("store") / "s"
    with Sqlite(path) as store:
        store.keep_result(TASK, "key", result)
        (back,) = store.recall_results([TASK], ["key"])
    assert bits(back) == bits(result)


def test_output_that_is_no_text(path):
    """What a program printed may have bytes that are none; they are kept as escapes."""
    error = TaskError("unknown_error", "bad \udcff byte")
    with Sqlite(path) as store:
        store.keep_result(TASK, "key", TaskResult(3, error=error, output="\udc80", notes=("\udc81",)))
        (back,) = store.recall_results([TASK], ["key"])
    assert (back.error.error_message, back.output, back.notes) == ("bad \\udcff byte", "\\udc80", ("\udc81",))


def test_what_is_no_number_is_not_kept(path):
    """A program of somebody's gives text: the run ends, and says so."""
    with Sqlite(path) as store, pytest.raises(ValueError):
        store.keep_result(TASK, "key", TaskResult(3, {"energy": 1.0, "verdict": "fine"}))


# The file


def test_people_can_query_it(path):
    """The rows, and the view of what people want to know."""
    tasks, keys, results = fill(path, 5)
    (row,) = asked(path, f"SELECT frag, bas, nbody, energy, cpu_time, step, notes FROM results WHERE key = '{keys[3]}'")
    assert row == ("[1, 5]", "[1, 5]", 2, results[3].values["energy"], 0.25, 0, None)
    (row,) = asked(path, "SELECT label, error_type, error_message FROM fragments WHERE error_type IS NOT NULL")
    assert row == (tasks[4].label, "convergence_error", "no luck\n" * 3)
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


def test_arrays_are_doubles_one_after_the_other(path):
    """In the order of shapes, so that anybody can read them."""
    results = fill(path, 1)[2]
    ((shapes, numbers),) = asked(path, "SELECT shapes, numbers FROM results")
    assert shapes == '{"energy": [], "gradient": [3, 3]}'
    expected = [results[0].values["energy"], *results[0].values["gradient"].ravel()]
    assert np.frombuffer(numbers, "<f8").tolist() == expected


def test_it_says_where_it_is_and_what_it_holds(path):
    """For the first line of a run."""
    fill(path, 10)
    with Sqlite(path) as store:
        assert store.describe() == f"{path}: 10 results, 2 of them failures"


def test_many_results_are_recalled_at_once(path):
    """More than SQLite takes parameters."""
    given = fill(path, 1200)
    with Sqlite(path) as store:
        assert check(store, *given) == set(range(1200))


def test_two_tasks_with_one_key(path):
    """Both get the result, each as its own."""
    other = attrs.evolve(TASK, index=8, mc="same")
    with Sqlite(path) as store:
        store.keep_result(TASK, "key", TaskResult(3, {"energy": 1.5}))
        found = store.recall_results([TASK, other], ["key", "key"])
    assert [(result.index, result.values) for result in found] == [(3, {"energy": 1.5}), (8, {"energy": 1.5})]


def test_it_takes_no_other_files_once_it_is_closed(path):
    """Log and shared memory are gone."""
    fill(path, 5)
    assert [each.name for each in path.parent.glob("job*")] == ["job.store"]


KEEPING = """
import sys
from tests.stores import made
from mbexec.plugins import sqlite
if sys.argv[2] == "delete":
    sqlite.opening.network = lambda path: "nfs4"
with sqlite.Sqlite(sys.argv[1]) as store:
    for index, each in enumerate(zip(*made(2000))):
        store.keep_result(*each)
        print(index, flush=True)
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_an_acknowledged_result_survives_kill_9(path, journal):
    """Of the process that had kept it a moment before, however far it was with the next one."""
    given = made(2000)
    for count in (1, 20, 150):
        command = [sys.executable, "-c", KEEPING, path, journal]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            acknowledged = set()
            for line in process.stdout:
                if line.strip().isdecimal():
                    acknowledged.add(int(line))
                if len(acknowledged) == count:
                    process.send_signal(signal.SIGKILL)
        assert len(acknowledged) >= count
        with Sqlite(path) as store:
            assert check(store, *given) >= acknowledged
        assert not list(path.parent.glob("*damaged*"))


def test_a_link_to_a_store(path, tmp_path):
    """Is that store, also when it has to be mended."""
    given = fill(path, 50)
    link = tmp_path / "elsewhere" / "link.store"
    link.parent.mkdir()
    link.symlink_to(path)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with Sqlite(link) as store:
        assert check(store, *given) == set(range(50))
    assert sorted(each.name for each in path.parent.glob("job*")) == ["job.store", "job.store.damaged-1"]
    assert [each.name for each in link.parent.iterdir()] == ["link.store"]


# In a run


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_the_second_run_runs_nothing(path, executor):
    """And its result is the same to the last bit."""
    tables = job(argon(4), driver="gradient")
    first = mbexec.run(tables, executor=executor, store=path)
    again = mbexec.run(tables, executor=executor, store=path)
    assert (executed(first), executed(again)) == ([4, 6, 4, 1], [0, 0, 0, 0])
    assert again.result.return_result.tobytes() == first.result.return_result.tobytes()


def test_runs_that_do_not_block_a_loop_share_a_store(path):
    """Two at once in threads of one process, and one after them."""
    small, large = job(argon(4)), job(argon(5))

    async def both():
        return await asyncio.gather(mbexec.arun(small, store=path), mbexec.arun(large, store=path))

    assert all(found.result.success for found in asyncio.run(both()))
    again = asyncio.run(both())
    assert [sum(executed(found)) for found in again] == [0, 0]


def test_whole_results_are_kept_if_one_wants_them(path):
    """The bodies come back as they were, and make cluster_results = "all" possible without running anything."""
    tables = job(argon(3), max_nbody=2)
    tables["plugin"] = {"sqlite": {"path": str(path), "bodies": True}}
    mbexec.run(tables, store="sqlite", executor="serial")
    assert asked(path, "SELECT count(body) FROM results") == [(6,)]
    found = mbexec.run(job(argon(3), max_nbody=2, cluster_results="all"), store=path, executor="serial")
    assert executed(found) == [0, 0]
    assert len(found.result.cluster_results) == 6


def test_without_asking_no_bodies_are_kept(path):
    """They cost more than many a fragment."""
    mbexec.run(job(argon(3)), store=path)
    assert asked(path, "SELECT count(*), count(body) FROM results") == [(7, 0)]


@pytest.mark.parametrize(
    "table",
    [{}, {"path": 3}, {"path": "x.store", "bodies": "yes"}, {"path": "x.store", "patience": -1}],
    ids=["no path", "path", "bodies", "patience"],
)
def test_settings_that_are_none(tables, table):
    """What is wrong is said before anything runs."""
    tables["plugin"] = {"sqlite": table}
    with pytest.raises(ConfigError, match=r"^\[plugin\.sqlite\] .* is not accepted: "):
        mbexec.run(tables, store="sqlite")


# Where it may be


def refused(path):
    """What is said of a store that can't be opened."""
    with pytest.raises(ConfigError) as error, Sqlite(path):
        pass
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 300, "File name too long"), ("x" * 250, "File name too long"), ("x\0y.store", "null")]
    + [(name, "Too many levels of symbolic links") for name in ("a", "a/x.store")],
    ids=["long", "longer beside it", "null", "loop", "in a loop"],
)
def test_a_name_that_no_file_can_have(tmp_path, name, reason):
    """A sentence says why not."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    path = tmp_path / name
    with pytest.raises(ConfigError) as error:
        mbexec.run(job(argon(2)), store=path)
    begin, end = re.escape(f"The store {str(path)!r:.80} can't have that name: "), re.escape(". Give it another.")
    assert re.fullmatch(f"{begin}.*{reason}.*{end}", str(error.value))


def test_a_folder_that_is_not_there(tmp_path):
    """It is not made: its name may be misspelt."""
    path = tmp_path / "nowhere" / "job.store"
    assert refused(path) == (
        f"The folder of the store {path} does not exist; make it, or give the store another place."
    )


def test_a_path_that_is_a_folder(tmp_path):
    """Nor is a device a store."""
    for path in (tmp_path, "/dev/null"):
        assert refused(path) == (f"The store {path} is no file but a folder or a device; give the store another name.")


@pytest.mark.parametrize("text", [b"no database", b"", b"SQLite format 3\0", os.urandom(20000)], ids=len)
def test_a_file_that_is_no_store(path, text):
    """It is left as it is; but an empty file may become one."""
    path.write_bytes(text)
    if not text:
        fill(path, 1)
        return
    assert refused(path) == (
        f"The file {path} is no store of mbexec, and is left as it is; give the store another name, or run without one."
    )
    assert path.read_bytes() == text


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_of_somebody_else(path, mode):
    """It is left as it is, also while somebody is at work with it."""
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute(f"PRAGMA journal_mode = {mode}")
    theirs.execute("CREATE TABLE results (key TEXT)")
    before = {each.name: each.read_bytes() for each in path.parent.glob("job*") if not each.name.endswith("-shm")}
    assert "is no store of mbexec, and is left as it is" in refused(path)
    after = {each.name: each.read_bytes() for each in path.parent.glob("job*") if not each.name.endswith("-shm")}
    assert after == before
    theirs.close()


def test_a_store_of_a_newer_version(path):
    """It is left as it is, with all that this version could read in it."""
    fill(path, 3)
    asked(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    assert refused(path) == (
        f"The store {path} is one of a newer mbexec, or its header is damaged: it has format 2, and this "
        "mbexec knows 1. Upgrade mbexec, or give the store another name; the file is left as it is."
    )
    assert path.read_bytes() == before
    assert list(path.parent.glob("*.store*")) == [path]


def command(*words):
    """What the command line says in a process of its own."""
    call = [sys.executable, "-c", "from mbexec.cli import main; main(prog_name='mbexec')", *words]
    return subprocess.run(call, capture_output=True, text=True)


def test_the_command_line_keeps_and_refuses(tmp_path):
    """It runs jobs in a thread of its own; what can't be is a line, and the exit code says that the input is bad."""
    (tmp_path / "job.toml").write_text(
        '[molecule]\ngeometry = "Ar 0 0 0\\n--\\nAr 0 0 4"\n[program]\nprogram = "model-potential"\nmethod = "lj"\n'
    )
    (tmp_path / "notes.txt").write_text("buy milk")
    found = command("run", "job.toml", "--store", "notes.txt")
    assert found.returncode == 2
    assert re.fullmatch(
        r"Error: The file \S*notes\.txt is no store of mbexec, and is left as it is; .*\n", found.stderr
    )
    assert command("run", "job.toml", "--store", "fresh.store").returncode == 0
    assert asked("fresh.store", "SELECT count(*) FROM results") == [(3,)]


# Network file systems


def test_on_a_network_there_is_no_shared_memory(path, on_nfs):
    """A rollback journal takes the place of the log, and it is said that this takes longer."""
    with capture_logs() as logs:
        fill(path, 3)
    assert events(logs, "store_on_network") == [
        {
            "event": "store_on_network",
            "path": str(path),
            "filesystem": "nfs4",
            "why": "each result takes longer to keep there",
            "log_level": "info",
        }
    ]
    assert asked(path, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize("rule", STORE_RULES)
def test_on_a_network_every_rule_is_kept(rule, on_nfs):
    """By the rollback journal as well."""
    rule(lambda folder: Sqlite(folder / "results.store"))


def test_a_system_that_does_not_tell_its_mounts(path, monkeypatch):
    """Is taken for one with local disks."""

    def no_proc(**_):
        raise FileNotFoundError("/proc/filesystems")

    monkeypatch.setattr(psutil, "disk_partitions", no_proc)
    fill(path, 1)
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_store_may_be_moved_to_a_network_and_back(path, on_nfs, monkeypatch):
    """Whichever journal it had."""
    monkeypatch.undo()
    given = fill(path, 5)
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [Partition("/", "fuse.sshfs")])  # noqa: A006
    for mode in ("delete", "wal"):
        with Sqlite(path) as store:
            assert check(store, *given) == set(range(5))
            assert asked(path, "PRAGMA journal_mode") == [(mode,)]
        monkeypatch.undo()


@pytest.mark.parametrize("go", [Path.unlink, lambda path: path.rename(path.with_name("old.store"))])
def test_a_store_that_vanishes_is_made_anew(path, go):
    """Somebody tidied up: the log says so once, and what comes later is kept, and can be found."""
    tasks, keys, results = made(6)
    with capture_logs() as logs, Sqlite(path) as store:
        keep(store, tasks[:3], keys[:3], results[:3])
        assert not events(logs, "store_gone")
        go(path)
        keep(store, tasks[3:], keys[3:], results[3:])
    (gone,) = events(logs, "store_gone")
    assert (gone["log_level"], gone["path"]) == ("warning", str(path))
    with Sqlite(path) as store:
        assert check(store, tasks, keys, results) == {3, 4, 5}


def test_a_store_in_the_making_is_waited_for(tmp_path):
    """While another run makes it, its header says nothing yet, and a journal stands beside it."""
    path, journal = tmp_path / "water.store", tmp_path / "water.store-journal"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE results (id INTEGER)")
    journal.touch()
    with Sqlite(tmp_path / "other.store"):
        pass

    def finish():
        (tmp_path / "other.store").replace(path)
        journal.unlink()

    maker = threading.Timer(0.3, finish)
    maker.start()
    assert check_is_store(path)
    maker.join()
    assert not journal.exists()
