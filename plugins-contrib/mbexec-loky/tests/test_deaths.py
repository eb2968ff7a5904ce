"""Workers that die, hang or are killed: what it costs, and what is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing.connection import Pipe

import pytest
from loky.backend import get_context as get_loky_context
from loky_cases import bits, failures, scratch, soon
from mbexec_loky import slots
from mbexec_loky.nursery import tend

import mbexec


@pytest.mark.parametrize("deed", ["die", "exit"])
def test_a_deadly_fragment_fails_alone(deed, toys, events):
    """It runs twice, the second time without neighbours; everything else runs once."""
    found = mbexec.run(toys.job({"[2, 4]": deed}))
    (failed,) = failures(found).values()
    assert failed["label"] == '["(auto)", [3, 5], [3, 5]]'
    assert toys.starts()["[2, 4]"] == 2
    assert sum(toys.starts().values()) == len(found.plan) + 1
    assert toys.lines()[-1][0] == "[2, 4]"
    assert [event["event"] for event in events] == [
        "worker_died",
        "fragments_run_again",
        "worker_died",
        "fragment_note",
    ]


def test_the_message_says_how_the_worker_died(toys):
    """The signal by its name."""
    (failed,) = failures(mbexec.run(toys.job({"[0, 1]": "die"}))).values()
    assert failed["error_type"] == "random_error"
    assert failed["error_message"] == "The worker process that ran this fragment was killed by signal 11 (SIGSEGV)."


def test_a_fragment_that_dies_once_is_no_failure(toys):
    """As when memory ran out because of its neighbours: the same bits as without the death."""
    expected = bits(mbexec.run(toys.job(), executor="serial"))
    toys.log.unlink()
    found = mbexec.run(toys.job({"[1]": "die once", "[0, 5]": "die once"}))
    assert bits(found) == expected
    assert sum(toys.starts().values()) == len(found.plan) + 2


def test_children_and_files_of_a_dead_worker_go(toys, tmp_path):
    """Processes in its group and in sessions of their own; files in the scratch directory and in the system's."""
    base = tmp_path / "scratch"
    base.mkdir()
    found = mbexec.run(toys.job({"[0, 1]": "die with children"}, scratch_directory=str(base)))
    assert len(failures(found)) == 1
    assert toys.orphans() == []
    assert list(base.iterdir()) == scratch() == []


def test_a_hanging_fragment_is_killed_at_its_timeout(toys, events):
    """With everything that it started; it is not tried again, and the others are as they should be."""
    start = time.monotonic()
    found = mbexec.run(toys.job({"[2, 3]": "hang"}, timeout=1.0))
    assert time.monotonic() - start < 30
    (failed,) = failures(found).values()
    assert failed["error_type"] == "resource_error"
    assert failed["error_message"] == "This fragment took longer than task.timeout = 1 s and was killed."
    assert toys.starts()["[2, 3]"] == 1
    assert toys.orphans() == scratch() == []
    assert [event["label"] for event in events if event["event"] == "fragment_killed"] == [failed["label"]]


def test_the_timeout_counts_for_each_attempt(toys):
    """Two attempts of 0.7 s each are no more than 1 s; one that hangs after a failed one is killed."""
    deeds = {"[0]": "try twice", "[1, 2]": "hang the second time"}
    found = mbexec.run(toys.job(deeds, timeout=1.0, retries=1))
    assert list(failures(found)) == ['["(auto)", [2, 3], [2, 3]]']
    assert toys.starts()["[0]"] == toys.starts()["[1, 2]"] == 2


def test_an_interrupt_kills_what_runs(toys, monkeypatch):
    """Nothing that a worker started outlives it."""
    from mbexec.core.loop import Run

    def interrupted(self, task, result, queued):
        assert soon(lambda: toys.left.exists() and len(toys.left.read_text().split()) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_taken", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mbexec.run(toys.job({"[0, 1]": "hang"}))
    assert toys.orphans() == scratch() == []


def test_nothing_is_run_again_when_the_run_is_being_stopped(toys, events):
    """Nothing new is started: a fragment that killed its worker before is then a failed one."""
    from mbexec.core.engine import execute, read_job

    stop = threading.Event()
    spec, config = read_job(toys.job({"[0, 1]": "die"}, nfr=8, pause=0.05), {})

    def stop_then():
        soon(lambda: any(event["event"] == "worker_died" for event in events))
        stop.set()

    threading.Thread(target=stop_then).start()
    found = execute(spec, config, stop)
    assert toys.starts()["[0, 1]"] == 1
    assert not found.result.success
    assert found.report.failed == 1


def test_no_worker_is_started_for_a_run_that_is_being_stopped(toys, monkeypatch, events):
    """Workers that are killed then have failed fragments, and the run ends."""
    from mbexec.core.engine import execute, read_job

    started = []
    new = slots._new
    monkeypatch.setattr(slots, "_new", lambda: started.append(new()) or started[-1])
    stop = threading.Event()
    spec, config = read_job(toys.job({"[0, 1]": "hang", "[0, 2]": "hang"}), {})

    def kill():
        soon(lambda: toys.left.exists() and len(toys.left.read_text().split()) == 4)
        stop.set()
        for slot in started:
            os.kill(slot.pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    found = execute(spec, config, stop)
    assert found.report.failed == len(started) == 2
    assert [event["event"] for event in events] == ["worker_died", "worker_died"]
    assert toys.orphans() == scratch() == []


def test_a_parent_that_is_gone_before_it_has_its_answer():
    """The process that forks workers ends without a word."""
    ours, theirs = Pipe()
    process = get_loky_context("loky").Process(target=tend, args=(theirs,))
    process.start()
    theirs.close()
    ours.send(("ended", 1))
    ours.close()
    process.join(60)
    assert process.exitcode == 0
