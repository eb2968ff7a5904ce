"""What a level makes of messages that are lost with their worker or block."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import pytest
from mbexec_parsl.flow import Chunk, Flow, Traffic
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from mbexec import ExecutorError
from mbexec.testing.trial import Trial


class Pool:
    """Of which nothing is asked but what its workers know."""

    def __init__(self):
        self.known = {}

    def check(self):
        pass


@pytest.fixture
def flow():
    trial = Trial(["plain"] * 3)
    return Flow(trial.level, trial.work, Pool(), 0.2, Traffic())


def lost(flow, tasks, error):
    future = Future()
    future.set_exception(error)
    return list(flow._answered(Chunk(tasks), future))


def test_fragments_of_a_lost_message_run_again_one_by_one(flow, events):
    """Nobody can tell which of them it was; the log counts them."""
    tasks = list(Trial(["plain"] * 3).plan)
    assert lost(flow, tasks, ManagerLost(b"manager", "node")) == []
    assert flow._alone == deque(tasks)
    assert [event["run_again"] for event in events] == [3]
    assert flow._next(1) == tasks[:1]


def test_a_fragment_that_a_worker_dies_over_alone_has_failed(flow):
    """There is nobody else to blame; mbexec runs it once more, since the error is a random one."""
    (task, *_) = Trial(["plain"]).plan
    (result,) = lost(flow, [task], WorkerLost(0, "node"))
    assert result.error.error_type == "random_error"
    assert result.error.error_message.startswith("Parsl lost the worker that ran this fragment: ")


def test_a_fragment_that_three_blocks_are_lost_with_has_failed(flow):
    """Blocks end for many reasons, so twice is no proof."""
    (task, *_) = Trial(["plain"]).plan
    assert lost(flow, [task], ManagerLost(b"manager", "node")) == []
    assert lost(flow, [task], ManagerLost(b"manager", "node")) == []
    (result,) = lost(flow, [task], ManagerLost(b"manager", "node"))
    assert result.error.error_message.startswith("Parsl lost the block that ran this fragment: ")


def test_workers_that_die_as_they_start_end_the_run(flow):
    """Not at once, and not never."""
    for _ in range(20):
        assert lost(flow, [], WorkerLost(0, "node")) == []
    with pytest.raises(ExecutorError, match=r"^Parsl's workers die before they have run anything; the last time: "):
        lost(flow, [], WorkerLost(0, "node"))


def test_a_worker_without_this_distribution_ends_the_run(flow):
    """With what its Python said."""
    words = r"^A worker of Parsl's can't run fragments: ModuleNotFoundError: No module named 'mbexec_parsl'$"
    with pytest.raises(ExecutorError, match=words):
        lost(flow, [], ModuleNotFoundError("No module named 'mbexec_parsl'"))
