"""A store that can't be written to for a while, or not at all, costs neither a run nor its patience."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from structlog.testing import capture_logs

import mbexec
from mbexec import ConfigError, hookimpl
from mbexec.plugins import sqlite
from mbexec.plugins.sqlite import Sqlite
from mbexec.plugins.sqlite.rows import written
from tests.disks import small_disk
from tests.stores import asked, check, events, fill, keep, locked, made
from tests.systems import argon, job


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.store"


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    """Try again with each next result, however long the last attempt took."""
    monkeypatch.setattr(sqlite, "_REST", 0)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own: a folder, and what mounts it otherwise."""
    with small_disk(tmp_path / "disk", "8m") as found:
        yield found


def fill_up(folder):
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


# Full disks


def test_a_disk_that_is_full_for_a_while(disk):
    """Results are held, which is said once, and written as soon as there is room."""
    folder, _ = disk
    path = folder / "job.store"
    tasks, keys, results = made(300)
    with capture_logs() as logs, Sqlite(path) as store:
        keep(store, tasks[:20], keys[:20], results[:20])
        ballast = fill_up(folder)
        keep(store, tasks[20:200], keys[20:200], results[20:200])
        held = len(store._held)
        assert held > 50
        assert len(check(store, tasks, keys, results)) == 200 - held
        ballast.unlink()
        keep(store, tasks[200:], keys[200:], results[200:])
        assert not store._held
    (trouble,) = events(logs, "store_in_trouble")
    assert (trouble["path"], trouble["why"]) == (str(path), "the disk is full")
    (end,) = events(logs, "results_kept_at_last")
    assert end["results"] == held + 1
    with Sqlite(path) as store:
        assert check(store, tasks, keys, results) == set(range(300))


def test_a_disk_that_fills_up_during_a_run(disk, install):
    """The run ends with the right result; what could not be kept is said at the end, what could is there."""
    folder, _ = disk
    path = folder / "job.store"
    tables = job(argon(12), max_nbody=3)
    expected = mbexec.run(tables, executor="serial").result.return_result
    ballast = []

    class Filling:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                if task.frag == (2, 5):
                    ballast.append(fill_up(folder))
                yield work(task)

    install("filling-executor", {"filling": Filling})
    with capture_logs() as logs:
        assert mbexec.run(tables, executor="filling", store=path).result.return_result == expected
    (lost,) = events(logs, "results_not_kept")
    assert len(events(logs, "store_in_trouble")) == 1
    assert (lost["path"], lost["why"], lost["log_level"]) == (str(path), "the disk is full", "error")
    assert lost["results"] > 0
    logs = [folder / f"{path.name}{suffix}" for suffix in ("-wal", "-shm")]
    assert all(each.exists() for each in logs)  # there is no room to move what is in them
    ballast[0].unlink()
    again = mbexec.run(tables, executor="serial", store=path)
    assert not any(each.exists() for each in logs)
    assert again.result.return_result == expected
    assert sum(level.executed for level in again.report.levels) == lost["results"]


def test_a_disk_that_is_full_from_the_beginning(disk):
    """There can't be a store then, and the message says why."""
    folder, _ = disk
    fill_up(folder)
    path = folder / "job.store"
    with pytest.raises(ConfigError) as error, Sqlite(path):
        pass
    assert str(error.value) == (
        f"The store {path} can't be used: the disk is full. "
        "Mend that, give the store another place, or run without one."
    )


def test_a_damaged_store_on_a_full_disk(disk):
    """It is left as it is, since there is no room for another."""
    folder, _ = disk
    path = folder / "job.store"
    fill(path, 100)
    damaged = b"?" + path.read_bytes()[1:]
    path.write_bytes(damaged)
    ballast = fill_up(folder)
    with pytest.raises(ConfigError) as error, Sqlite(path):
        pass
    assert str(error.value) == (
        f"The store {path} is damaged, and what can be read of it can't be written to a new file: the disk is full. "
        "Mend that, give the store another name, or run without one."
    )
    assert path.read_bytes() == damaged
    ballast.unlink()
    assert sorted(each.name for each in folder.iterdir()) == ["job.store"]


def test_read_only(disk):
    """A file system that takes nothing is told before the run."""
    folder, mount = disk
    path = folder / "job.store"
    fill(path, 3)
    mount("remount,ro")
    for place, named in ((path, folder), (folder / "other.store", folder)):
        with pytest.raises(ConfigError) as error, Sqlite(place):
            pass
        assert str(error.value) == (
            f"The store {place} can't be written to: you may not write to {named}. Give the store another place, "
            "or run without one."
        )
    mount("remount,rw")


def test_a_file_that_turns_read_only(disk):
    """While a run goes on: the results are held, and written when it can be written to again."""
    folder, mount = disk
    path = folder / "job.store"
    tasks, keys, results = made(30)
    with capture_logs() as logs, Sqlite(path) as store:
        keep(store, tasks[:10], keys[:10], results[:10])
        store._close()
        mount("remount,ro")
        keep(store, tasks[10:20], keys[10:20], results[10:20])
        assert check(store, tasks, keys, results) == set()
        mount("remount,rw")
        keep(store, tasks[20:], keys[20:], results[20:])
        assert check(store, tasks, keys, results) == set(range(30))
    assert "can't be written to" in events(logs, "store_in_trouble")[0]["why"]


# Locks


def test_a_store_that_is_locked_for_a_while(path):
    """By another process, longer than the patience: waited for once, then held, and written when it is free."""
    tasks, keys, results = made(30)
    with capture_logs() as logs, Sqlite(path, patience=0.2) as store:
        keep(store, tasks[:10], keys[:10], results[:10])
        with locked(path):
            begun = time.monotonic()
            keep(store, tasks[10:20], keys[10:20], results[10:20])
            assert 0.2 <= time.monotonic() - begun < 2.0
            assert check(store, tasks, keys, results) == set(range(10))
        keep(store, tasks[20:], keys[20:], results[20:])
        assert check(store, tasks, keys, results) == set(range(30))
        assert not store._troubled
    assert [entry["why"] for entry in events(logs, "store_in_trouble")] == [
        "another process held it locked for more than 0.2 s"
    ]


def test_a_store_that_stays_locked(path):
    """What could not be written is said at the end, after the patience; the run has its result."""
    tables = job(argon(4), run={"executor": "serial"})
    tables["plugin"] = {"sqlite": {"path": str(path), "patience": 0.2}}
    fill(path, 3)
    with locked(path), capture_logs() as logs:
        begun = time.monotonic()
        assert mbexec.run(tables, store="sqlite").result.success
        assert time.monotonic() - begun < 5.0
    (lost,) = events(logs, "results_not_kept")
    assert (lost["results"], lost["why"]) == (15, "another process held it locked for more than 0.2 s")


def test_a_store_that_is_locked_from_the_beginning(path, monkeypatch):
    """Where there is no log that can be read meanwhile, the message says who is at fault."""
    monkeypatch.setattr(sqlite.opening, "network", lambda path: "nfs4")
    fill(path, 3)
    with locked(path), pytest.raises(ConfigError) as error, Sqlite(path, patience=0.2):
        pass
    assert str(error.value) == (
        f"The store {path} can't be used: another process held it locked for more than 0.2 s. "
        "Mend that, give the store another place, or run without one."
    )


def test_a_locked_store_is_described(path, monkeypatch):
    """As far as can be."""
    monkeypatch.setattr(sqlite.opening, "network", lambda path: "nfs4")
    fill(path, 10)
    with Sqlite(path, patience=0.1) as store:
        assert store.describe() == f"{path}: 10 results, 2 of them failures"
        with locked(path):
            assert store.describe() == f"{path}: another process held it locked for more than 0.1 s"


def test_a_store_that_somebody_is_reading_keeps_its_journal(path, monkeypatch):
    """It is changed when nobody is."""
    monkeypatch.setattr(sqlite.opening, "network", lambda path: "nfs4")
    fill(path, 10)
    monkeypatch.undo()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM results").fetchone()
        with Sqlite(path, patience=0.1) as store:
            assert check(store, *made(10)) == set(range(10))
        assert asked(path, "PRAGMA journal_mode") == [("delete",)]
    with Sqlite(path):
        assert asked(path, "PRAGMA journal_mode") == [("wal",)]


def test_rows_are_written_together_or_not_at_all(path):
    """One that can't be written leaves none of the others behind."""
    tasks, keys, results = made(2)
    rows = [written(*each) for each in zip(tasks, keys, results, strict=True)]
    with Sqlite(path) as store:
        with pytest.raises(sqlite3.Error):
            store._database.add([rows[0], ("too", "short")])
        assert store._database.count() == (0, 0)
        store._database.add(rows)
        assert store._database.count() == (2, 0)


def test_a_locked_store_is_not_read_where_there_is_no_log(path, monkeypatch):
    """The fragments are run, as if it knew none of them."""
    monkeypatch.setattr(sqlite.opening, "network", lambda path: "nfs4")
    given = fill(path, 10)
    with capture_logs() as logs, Sqlite(path, patience=0.1) as store:
        with locked(path):
            assert check(store, *given) == set()
        assert check(store, *given) == set(range(10))
    assert len(events(logs, "store_in_trouble")) == 1


def test_attempts_take_a_small_part_of_the_time(path, monkeypatch):
    """After an attempt that took long, there is none for ten times as long."""
    monkeypatch.undo()
    tasks, keys, results = made(100)
    with Sqlite(path, patience=0.3) as store, locked(path):
        keep(store, tasks[:1], keys[:1], results[:1])
        store._close()
        keep(store, tasks[1:], keys[1:], results[1:])
        assert store._database is None  # nobody opened it again
    with Sqlite(path) as store:
        assert check(store, tasks, keys, results) == set(range(100))


# Sharing

RUN = """
import sys, mbexec
tables = {tables!r}
found = mbexec.run(tables, store={store!r}, executor={executor!r}, workers=2)
print(found.result.return_result.hex())
"""


@pytest.mark.parametrize("executor", ["serial", "threads", "loky"])
def test_two_processes_share_a_store(path, tmp_path, executor):
    """Both finish with the right results, and few fragments are run twice."""
    log = tmp_path / "log"
    toy = {"program": "toy-potential", "method": "lj", "keywords": {"log": str(log), "sleep": 0.02}}
    jobs = [job(argon(nfr), max_nbody=3) | {"program": toy} for nfr in (6, 7)]
    expected = [mbexec.run({**tables, "program": {**toy, "keywords": {}}}) for tables in jobs]
    scripts = [RUN.format(tables=tables, store=str(path), executor=executor) for tables in jobs]
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for script in scripts
    ]
    for process, right in zip(running, expected, strict=True):
        said, complaints = process.communicate(timeout=120)
        assert float.fromhex(said.splitlines()[-1]) == right.result.return_result, complaints
    began = sum(line.startswith("began") for line in log.read_text().splitlines())
    needed = len(expected[1].plan)
    print(f"{executor}: {began - needed} of {needed} fragments were run twice")
    assert needed <= began <= 1.5 * needed
    assert asked(path, "SELECT count(*) FROM results") == [(needed,)]
