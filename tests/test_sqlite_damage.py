"""A damaged store never gives a wrong number; what can be read of it is saved, and the rest can be kept again."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import mbexec
from mbexec import ConfigError
from mbexec.plugins.sqlite import Sqlite
from mbexec.plugins.sqlite.care import examined
from mbexec.plugins.sqlite.contents import contents
from mbexec.plugins.sqlite.database import PAGE
from mbexec.plugins.sqlite.salvage import readable_rows
from tests.stores import asked, bits, check, events, fill, keep, made
from tests.systems import argon, job

COUNT = 120
GIVEN = made(COUNT)
EVERY = set(range(COUNT))
VERSION = range(60, 64)  # where it is in the header


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.store"


def left(*, crashed):
    """File and log of a store as it is left by a run, or by one that was killed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.store"
        fill(path, COUNT // 2)
        with Sqlite(path) as store:
            keep(store, *GIVEN)
            if crashed:
                return {"": path.read_bytes(), "-wal": Path(f"{path}-wal").read_bytes()}
        return {"": path.read_bytes()}


WHOLE = {"closed": left(crashed=False), "killed": left(crashed=True)}


def flipped(data, places):
    """With other bits at some places, except in the version: no store is touched that may be a newer one."""
    data = bytearray(data)
    for place in places:
        bit = int(place * 8 * len(data))
        if bit // 8 not in VERSION:
            data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def survivors(path):
    """How many results are given, all of them right; then the others are kept again, and all are there."""
    with Sqlite(path, patience=0.5) as store:
        found = check(store, *GIVEN)
        keep(store, *[[part[index] for index in sorted(EVERY - found)] for part in GIVEN])
        assert not store._held
    with Sqlite(path, patience=0.5) as store:
        again = check(store, *GIVEN)
        keep(store, *[[part[index] for index in sorted(EVERY - again)] for part in GIVEN])
    with Sqlite(path, patience=0.5) as store:
        assert check(store, *GIVEN) == EVERY
    return len(found)


flips = given(
    state=st.sampled_from(sorted(WHOLE)), places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8)
)


@settings(max_examples=25, deadline=None)
@example("closed", [0.8485023537110915])  # an entry of the index that points to another row
@flips
def test_flipped_bits_never_give_a_wrong_number(state, places):
    """Anywhere in the file, and in the log of a run that was killed."""
    flip(state, places)


@pytest.mark.nightly
@settings(max_examples=3000, deadline=None)
@flips
def test_many_flipped_bits_never_give_a_wrong_number(state, places):
    """The same for longer."""
    flip(state, places)


def flip(state, places):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.store"
        for place, (suffix, data) in enumerate(WHOLE[state].items()):
            Path(f"{path}{suffix}").write_bytes(flipped(data, places[place :: len(WHOLE[state])]))
        survivors(path)


def test_two_rows_with_one_key(tmp_path):
    """The index can't be made anew for a damaged row then; what fits its checksum goes into a new file."""
    one, other, damaged = (key.encode() for key in GIVEN[1][:3])
    data = WHOLE["closed"][""]
    assert data.count(other + b"(auto)") == data.count(damaged + b"(auto)") == 1
    path = tmp_path / "job.store"
    data = data.replace(other + b"(auto)", one + b"(auto)")
    path.write_bytes(data.replace(damaged + b"(auto)", damaged + b"(autp)"))
    assert survivors(path) == COUNT - 1
    assert path.with_name("job.store.damaged-1").exists()


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("state", WHOLE)
def test_flipped_bits_of_the_header(state, step, tmp_path):
    """One by one, of the hundred bytes without which SQLite reads nothing."""
    for bit in {*range(0, 800, step), *range(8 * 18, 8 * 20)}:
        path = tmp_path / f"{bit}.store"
        path.write_bytes(flipped(WHOLE[state][""], [bit / 8 / len(WHOLE[state][""])]))
        if "-wal" in WHOLE[state]:
            Path(f"{path}-wal").write_bytes(WHOLE[state]["-wal"])
        assert survivors(path) >= COUNT // 2


ONE_IN = [11, pytest.param(1, marks=pytest.mark.nightly)]


def spoiled_pages(folder, one_in):
    """A store of three results, with one byte in turn of the page that says what is in it no longer what it was."""
    path = folder / "whole.store"
    given = fill(path, 3)
    whole = path.read_bytes()
    places = [place for place, byte in enumerate(whole[:PAGE]) if byte and place not in VERSION]
    for place in places[::one_in]:
        spoiled = folder / f"{place}.store"
        spoiled.write_bytes(whole[:place] + b"\xe6" + whole[place + 1 :])
        yield spoiled, given


@pytest.mark.parametrize("one_in", ONE_IN)
def test_a_byte_of_the_schema(tmp_path, one_in):
    """Replaced by one that is no text: no result is lost, and what is kept then is there."""
    for path, kept in spoiled_pages(tmp_path, one_in):
        with Sqlite(path) as store:
            assert check(store, *kept) == {0, 1, 2}, path
            keep(store, *made(4))
            assert check(store, *made(4)) == {0, 1, 2, 3}, path


def command_says(path):
    """What a store has, counted in two ways, and its keys; or what is wrong with it."""
    try:
        with contents(path, 0.1) as found:
            return sum(group.results for group in found.groups()), found.count(), [kept.key for kept in found.rows()]
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("one_in", ONE_IN)
def test_a_byte_of_the_schema_and_the_commands(tmp_path, one_in):
    """Replaced by one that is no text: they tell what the store has, or in a sentence that it is damaged."""
    damaged = 0
    for path, (_, keys, _) in spoiled_pages(tmp_path, one_in):
        assert examined(path, 0.1).good == 3, path
        said = command_says(path)
        assert said == (3, 3, keys) or said.startswith(f"The store {path} is damaged: ")
        damaged += isinstance(said, str)
    assert damaged > 400 / one_in


@pytest.mark.parametrize("state", WHOLE)
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_cut_off_anywhere(state, suffix, tmp_path):
    """What stands before the cut is saved, and a line says where the rest is."""
    whole = WHOLE[state]
    size = len(whole.get(suffix, b""))
    for place, length in enumerate([1, 71, 72, *range(0, size, max(1, size // 12))]):
        path = tmp_path / f"{place}.store"
        for name, data in whole.items():
            Path(f"{path}{name}").write_bytes(data[:length] if name == suffix else data)
        if 0 < length < 72 and (suffix, state) == ("", "closed"):  # nobody can say what it was
            with pytest.raises(ConfigError, match="is no store of mbexec, and is left as it is"):
                survivors(path)
        else:
            survivors(path)


def test_a_damaged_row_is_run_again(path):
    """The run goes on, says so, and ends with the right result; the next one reuses everything."""
    tables = job(argon(4), run={"executor": "serial"})
    expected = mbexec.run(tables).result.return_result
    mbexec.run(tables, store=path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE results SET energy = energy + 1, numbers = zeroblob(8) WHERE frag = '[2, 3]'")
    connection.commit()
    connection.close()
    with capture_logs() as logs:
        found = mbexec.run(tables, store=path)
    assert found.result.return_result == expected
    assert sum(level.executed for level in found.report.levels) == 1
    assert events(logs, "results_damaged")[0]["labels"] == ['["(auto)", [2, 3], [2, 3]]']
    assert sum(level.executed for level in mbexec.run(tables, store=path).report.levels) == 0


def test_what_is_readable_is_saved_and_the_rest_set_aside(path):
    """Under a name that is told, log included; a second time under another."""
    main, log = (flipped(WHOLE["killed"][suffix], [0.0]) for suffix in ("", "-wal"))
    for number in (1, 2):
        path.write_bytes(main)
        Path(f"{path}-wal").write_bytes(log)
        with capture_logs() as logs, Sqlite(path) as store:
            assert check(store, *GIVEN) == EVERY
        aside = Path(f"{path}.damaged-{number}")
        (told,) = events(logs, "store_damaged")
        assert (told["set_aside"], told["saved"], told["path"]) == (str(aside), COUNT, str(path))
        assert (aside.read_bytes(), Path(f"{aside}-wal").read_bytes()) == (main, log)
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]
    assert not list(path.parent.glob(".*"))


def test_damage_that_is_found_while_a_run_goes_on(path):
    """The store is mended on the spot, and what is kept then is there afterwards."""
    tasks, keys, results = fill(path, 400)
    with capture_logs() as logs, Sqlite(path) as store:
        with path.open("r+b") as file:
            for start in range(8192, path.stat().st_size, 4096):
                file.seek(start)
                file.write(os.urandom(8))
        found = check(store, tasks, keys, results)
        keep(store, tasks, keys, results)
    assert found < set(range(400))
    assert events(logs, "store_damaged")
    with Sqlite(path) as store:
        assert check(store, tasks, keys, results) == set(range(400))


def test_a_store_that_another_process_has_mended(path):
    """Whoever comes second takes what the first one made."""
    fill(path, 50)
    with Sqlite(path) as first, Sqlite(path) as second:
        path.write_bytes(flipped(path.read_bytes(), [0.0]))
        for store in (first, second):
            store._close()
            keep(store, *made(60))
    assert len(list(path.parent.glob("job.store.damaged-?"))) == 1
    assert asked(path, "SELECT count(*) FROM results") == [(60,)]


@pytest.mark.parametrize("size", [10, 300, 4000, 5000, 20000])
def test_rows_of_any_length_are_read(path, size):
    """Also those that fill several pages."""
    tasks, keys, results = made(20)
    for result in results:
        object.__setattr__(result, "body", os.urandom(size))
    with Sqlite(path) as store:
        keep(store, tasks, keys, results)
    assert {row[0] for row in readable_rows(path)} == set(keys)
    path.write_bytes(flipped(path.read_bytes(), [0.0]))
    with Sqlite(path) as store:
        assert [bits(result) for result in store.recall_results(tasks, keys)] == [bits(result) for result in results]


def test_a_value_of_another_kind_is_damage(path):
    """SQLite lets any column hold anything."""
    given = fill(path, 4)
    for change in ("numbers = 'text'", "numbers = NULL", "worker = x'00'", "checksum = 7"):
        connection = sqlite3.connect(path)
        connection.execute(f"UPDATE results SET {change} WHERE id = 2")
        connection.commit()
        connection.close()
        with Sqlite(path) as store:
            assert check(store, *given) == {0, 2, 3}
            keep(store, *[part[1:2] for part in given])


@pytest.fixture
def damaged(path):
    """A store of fifty results that has to be mended."""
    fill(path, 50)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    return path


def test_a_store_that_another_process_is_mending(damaged):
    """It is waited for, no longer than the patience."""
    with damaged.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process held it locked for more than 0\.1 s"):
            Sqlite(damaged, patience=0.1).__enter__()


def test_a_store_that_another_process_has_just_mended(damaged, tmp_path):
    """What is there by the time that it may be looked at is taken."""
    fill(tmp_path / "good.store", 7)
    with damaged.open("rb") as file, capture_logs() as logs:
        fcntl.flock(file, fcntl.LOCK_EX)
        release = threading.Timer(0.3, lambda: (os.replace(tmp_path / "good.store", damaged), file.close()))
        release.start()
        with Sqlite(damaged) as store:
            assert check(store, *made(50)) == set(range(7))
        release.join()
    assert events(logs, "store_damaged") == []


@pytest.mark.parametrize(("module", "name"), [(fcntl, "flock"), (Path, "hardlink_to")])
def test_a_file_system_that_has_not_everything(damaged, monkeypatch, module, name):
    """Neither locks nor links are needed to mend a store."""

    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(module, name, refuse)
    with Sqlite(damaged) as store:
        assert check(store, *made(50)) == set(range(50))
    assert Path(f"{damaged}.damaged-1").read_bytes()[:2] == b"?Q"


def test_what_was_deleted_does_not_come_back(path):
    """Somebody found a result to be wrong and removed it."""
    fill(path, 50)
    with Sqlite(path) as store:
        store._database.connection.execute("DELETE FROM results WHERE nbody = 2 AND frag < '[1, 3]'")
    left = {key for (key,) in asked(path, "SELECT key FROM results")}
    assert {row[0] for row in readable_rows(path)} == left
