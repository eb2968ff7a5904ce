"""Limits on nodes, and when nodes are tried again."""

import asyncio
import math
import threading
import time

import pytest

from mbexec.graph import Graph, Limit, Retry
from tests.graph_nodes import Node, context
from tests.test_graph_executor import Gate, run


def many(graph, gate, count, **kw):
    for i in range(count):
        graph.add(Node(gate), name=f"{kw.get('limits', 'none')}-{i}", **kw)


def test_limits_hold_for_those_that_name_them():
    """And for nobody else; who waits for one does not keep others waiting."""
    graph = Graph(limits={"api": Limit(2), "disk": Limit(1)})
    gates = {"api": Gate(), "disk": Gate(), "none": Gate()}
    for name, gate in gates.items():
        many(graph, gate, 12, **({} if name == "none" else {"limits": name}))
    run(graph.run(context(), max_concurrent=8))
    assert (gates["api"].most, gates["disk"].most) == (2, 1)
    assert gates["none"].most >= 5
    assert [gate.count for gate in gates.values()] == [12] * 3


def test_several_limits_hold_together():
    """A node takes all of them or none."""
    graph = Graph(limits={"a": Limit(3), "b": Limit(2)})
    gate = Gate()
    for i in range(10):
        graph.add(Node(gate), name=str(i), limits=["a", "b"])
    run(graph.run(context(), max_concurrent=8))
    assert (gate.most, gate.count) == (2, 10)


def test_graphs_may_share_a_limit():
    """Together they don't exceed it, in one loop or in several threads."""
    limit = Limit(2)
    now = most = count = 0
    lock = threading.Lock()

    async def do(ctx):
        nonlocal now, most, count
        with lock:
            now, count = now + 1, count + 1
            most = max(most, now)
        await asyncio.sleep(0.001)
        with lock:
            now -= 1

    def graph():
        new = Graph(limits={"api": limit})
        many(new, do, 10, limits="api")
        return new

    async def two():
        await asyncio.gather(graph().run(context()), graph().run(context()))

    threads = [threading.Thread(target=lambda: asyncio.run(two())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, count) == (2, 40)
    assert limit._running == 0
    assert not limit._watchers


@pytest.mark.parametrize("first", [1, None])
def test_limits_change_while_nodes_run(first):
    """More or fewer at once, from the next node on."""
    limit = Limit(first)
    gate = Gate()
    mosts = []

    async def do(ctx):
        if gate.count == 10:
            mosts.append(gate.most)
            gate.most = 0
            limit.at_once = 5 if first else 1
        await gate(ctx)
        gate.now == 0 and gate.count > 20 and mosts.append(0)

    graph = Graph(limits={"api": limit})
    many(graph, do, 40, limits="api")
    run(graph.run(context(), max_concurrent=6))
    assert gate.count == 40
    assert mosts[0] == (first or 6)
    assert gate.most == (5 if first else gate.most)


def test_waiting_nodes_start_when_a_limit_is_raised():
    """Though none has ended."""
    limit = Limit(1)
    both = asyncio.Event

    async def main():
        started, release = both(), both()
        count = 0

        async def do(ctx):
            nonlocal count
            count += 1
            if count == 2:
                release.set()
            started.set()
            await release.wait()

        graph = Graph(limits={"api": limit})
        many(graph, do, 2, limits="api")
        task = asyncio.create_task(graph.run(context()))
        await started.wait()
        threading.Thread(target=setattr, args=(limit, "at_once", 2)).start()
        return await asyncio.wait_for(task, 30)

    assert run(main()).is_success


def starts_of(limit, count, slots=8):
    """When nodes start."""
    found = []
    graph = Graph(limits={"api": limit})
    many(graph, lambda ctx: found.append(time.monotonic()), count, limits="api")
    run(graph.run(context(), max_concurrent=slots))
    return found


def test_starts_in_a_time_are_limited():
    """In any stretch of it."""
    found = starts_of(Limit(starts=3, per=0.05), 10)
    assert len(found) == 10
    assert all(later - one > 0.045 for one, later in zip(found, found[3:], strict=False))
    assert found[2] - found[0] < 0.045 or found[-1] - found[0] > 0.2


def test_both_kinds_of_limit():
    """Hold together."""
    found = starts_of(Limit(1, starts=2, per=0.02), 5)
    assert all(later - one > 0.018 for one, later in zip(found, found[2:], strict=False))


def test_starts_can_change():
    """To no limit, for those that wait."""
    limit = Limit(starts=1, per=600)
    threading.Timer(0.05, setattr, (limit, "starts", None)).start()
    began = time.monotonic()
    assert len(starts_of(limit, 5)) == 5
    assert time.monotonic() - began < 60


def test_waits_are_told(monkeypatch):
    """In seconds, by a clock that never goes back."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    limit = Limit(2, starts=3, per=60)
    assert limit.take()
    assert limit.take()
    assert limit.wait() == math.inf
    assert not limit.take()
    limit.give_back()
    clock[0] = 110.0
    assert limit.wait() == 0
    assert limit.take()
    limit.give_back()
    assert limit.wait() == 50.0
    limit.starts = 2
    assert limit.wait() == 50.0
    limit.per = 5.0
    assert limit.wait() == 0
    clock[0] = 200.0
    assert limit.take()
    limit.give_back(unused=True)
    assert not limit._started


def test_a_limit_that_another_thread_takes_first(monkeypatch):
    """What was taken before it is given back, and it is tried again soon."""
    limits = {"a": Limit(1), "b": Limit(1)}
    taken = []

    def take():
        taken.append(True)
        return len(taken) > 2 and Limit.take(limits["b"])

    monkeypatch.setattr(limits["b"].__class__, "__setattr__", object.__setattr__)
    limits["b"].take = take
    graph = Graph(limits=limits)
    gate = Gate()
    many(graph, gate, 3, limits=("a", "b"))
    run(graph.run(context()))
    assert (gate.most, gate.count, len(taken)) == (1, 3, 5)


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"at_once": 0}, "at_once = 0 must be a whole number of at least 1, or None for no limit"),
        ({"starts": 1.5}, "starts = 1.5 must be a whole number of at least 1, or None for no limit"),
        ({"starts": 1, "per": 0}, "per = 0 must be a positive number of seconds"),
    ],
)
def test_limits_are_checked(kw, message):
    """When they are made and when they are changed."""
    with pytest.raises(ValueError, match=message):
        Limit(**kw)
    limit, (name, value) = Limit(), list(kw.items())[-1]
    with pytest.raises(ValueError, match=message):
        setattr(limit, name, value)


# Retries


def test_waits_grow():
    """By a factor, up to the longest."""
    retry = Retry(attempts=6, delay=1, factor=3, longest=20, jitter=0)
    assert [retry.wait(ValueError(), n) for n in range(1, 7)] == [1, 3, 9, 20, 20, None]


def test_waits_are_jittered():
    """By no more than the part that is left to chance."""
    retry = Retry(delay=1, jitter=0.25)
    waits = {retry.wait(ValueError(), 1) for _ in range(200)}
    assert len(waits) > 100
    assert 0.75 <= min(waits) < 0.8
    assert 0.95 < max(waits) <= 1


def test_errors_are_chosen():
    """By class; others are not tried again."""
    retry = Retry(on=[ConnectionError, TimeoutError], jitter=0, delay=0)
    assert retry.wait(ConnectionResetError(), 1) == retry.wait(TimeoutError(), 1) == 0
    assert retry.wait(ValueError(), 1) is None
    assert Retry(on=OSError).on == (OSError,)


def test_very_many_attempts():
    """Don't overflow."""
    assert Retry(attempts=10**6, jitter=0).wait(ValueError(), 10**5) == 60


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"attempts": 0}, "attempts = 0 must be a whole number of at least 1"),
        ({"delay": -1}, "delay = -1 must be at least 0"),
        ({"factor": 0.5}, "factor = 0.5 must be at least 1"),
        ({"longest": -1}, "longest = -1 must be at least 0"),
        ({"jitter": 2}, "jitter = 2 must lie between 0 and 1"),
        ({"attempts": 2.5}, "attempts = 2.5 must be a whole number"),
        ({"attempts": "3"}, "attempts = '3' must be a whole number"),
        ({"on": "OSError"}, "on has 'OSError'; give classes of Exception, such as OSError"),
        ({"on": 3}, "on has 3; give"),
        ({"on": [OSError, KeyboardInterrupt]}, "on has <class 'KeyboardInterrupt'>; give"),
    ],
)
def test_retries_are_checked(kw, message):
    """When they are made."""
    with pytest.raises(ValueError, match=message):
        Retry(**kw)
