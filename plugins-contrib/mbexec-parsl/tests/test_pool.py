"""Which pool a run gets, and what becomes of it afterwards: of pools that start nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from mbexec_parsl import pool

from mbexec import ExecutorError

pytestmark = pytest.mark.usefixtures("no_pool")


@pytest.fixture
def ended(monkeypatch):
    """Pools that were stopped, in order; starting one takes nothing."""
    found, heard = [], threading.Event()

    def stop(stopped):
        found.append(stopped)
        heard.set()

    monkeypatch.setattr(pool.Pool, "start", lambda started: None)
    monkeypatch.setattr(pool.Pool, "stop", stop)
    found_with = SimpleNamespace(pools=found, heard=heard)
    yield found_with
    pool._end()


def site(most=2):
    """One whose interchange runs."""
    process = SimpleNamespace(poll=lambda: None)
    return SimpleNamespace(most=most, htex=SimpleNamespace(bad_state_is_set=False, interchange_proc=process))


def lease(key="a", workers=2, most=2):
    return pool.lease(key, workers, lambda: site(most), lambda: (None, False))


def test_a_pool_that_waits_is_taken(ended):
    """By a run of its kind that needs no more workers than it has."""
    first = lease()
    pool.give_back(first, "a", 60)
    assert lease(workers=1) is first
    assert ended.pools == []


@pytest.mark.parametrize("wanted", [{"key": "b"}, {"workers": 3, "most": 3}])
def test_a_pool_of_another_kind_makes_room(ended, wanted):
    """There is one at most that waits."""
    first = lease()
    pool.give_back(first, "a", 60)
    assert lease(**wanted) is not first
    assert ended.pools == [first]


def test_a_pool_whose_interchange_has_ended_is_not_taken(ended):
    """It is ended, and another one is started."""
    first = lease()
    pool.give_back(first, "a", 60)
    first.site.htex.interchange_proc = None
    assert lease() is not first
    assert ended.pools == [first]


def test_one_pool_waits(ended):
    """Of two runs at once, the first that ends leaves its pool."""
    first, second = lease(), lease()
    pool.give_back(first, "a", 60)
    pool.give_back(second, "a", 60)
    assert ended.pools == [second]
    assert lease() is first


def test_a_pool_that_nobody_wants_ends(ended):
    """After `idle_timeout`."""
    first = lease()
    pool.give_back(first, "a", 0.01)
    assert ended.heard.wait(60)
    assert ended.pools == [first]
    assert lease() is not first


def test_a_pool_that_can_not_be_started_is_ended(ended, monkeypatch):
    """What it had started by then goes."""

    def start(started):
        raise ExecutorError("no interchange")

    monkeypatch.setattr(pool.Pool, "start", start)
    with pytest.raises(ExecutorError, match=r"^no interchange$"):
        lease()
    assert len(ended.pools) == 1
    assert pool._Kept.leased == set()


def test_an_interchange_that_does_not_answer(ended):
    """The message says what happened."""

    def run(command, timeout_s):
        raise TimeoutError("60 s")

    mine = lease()
    mine.site.htex.command_client = SimpleNamespace(run=run)
    with pytest.raises(ExecutorError, match=r"^Parsl's interchange does not answer: TimeoutError: 60 s$"):
        mine.workers()
