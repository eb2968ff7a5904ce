"""Workers and whole blocks that are killed from outside: what it costs, and what is left."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest
from mbexec_parsl import Parsl, pool

from mbexec.processes import MARK
from mbexec.testing.trial import Trial, plugged

pytestmark = pytest.mark.usefixtures("no_pool")


def blocks():
    """Processes of this test's pool by what they are: managers, and the workers that they have started."""
    folder = str(next(iter(pool._Kept.leased)).folder)
    managers = [p for p in psutil.process_iter() if folder in cmdline(p) and "process_worker_pool" in cmdline(p)]
    return {manager.pid: manager.children() for manager in managers if "started.py" in cmdline(manager)}


def cmdline(process):
    try:
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:
        return ""


def marked(mark):
    """Processes that carry it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def run(trial, executor, place, deed):
    """All results; something is done when so many have come."""
    results = []
    for result in trial.submit(executor):
        results.append(result)
        if len(results) == place:
            deed(results)
    return results


def right(trial, results):
    """Each task once, with the numbers that it gives here."""
    assert sorted(result.index for result in results) == list(range(len(trial.plan)))
    return all(r.values.get("energy") == trial.work(trial.plan[r.index]).values["energy"] for r in results)


def several(workers=2):
    return Trial(["slow"] * 600, {"slow": {"sleep": 0.02}}, workers=workers)


def test_a_block_that_is_killed_costs_no_result(events):
    """Two blocks, one killed with -9 amid the run: its fragments run again, another block comes, the bits are right."""
    trial, killed = several(), []

    def kill(results):
        before = blocks()
        assert len(before) == 2
        pid = int(results[-1].worker.split(":")[1])
        manager = next(each for each in before if pid in [p.pid for p in psutil.Process(each).children(True)])
        killed.append(manager)
        os.kill(manager, signal.SIGKILL)

    with plugged(lambda: Parsl(blocks=2, workers_per_node=1, heartbeat_period=1, heartbeat_threshold=3)) as executor:
        assert right(trial, run(trial, executor, 200, kill))
        keeper = pool._Kept.pool
        end = time.monotonic() + 60
        while len(keeper.site.htex.connected_managers()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(keeper.site.htex.connected_managers()) == 2
    (lost, *more) = [event for event in events if event["event"] == "parsl_lost"]
    assert lost["what"] == "block"
    assert 1 <= sum(event["run_again"] for event in [lost, *more]) <= 2 * 200
    assert killed[0] not in [p.pid for p in psutil.process_iter() if "process_worker_pool" in cmdline(p)]
    assert marked(keeper.site.mark)
    pool._idle(keeper)
    assert not marked(keeper.site.mark)  # of the block that was killed, too


@pytest.mark.nightly
def test_a_worker_that_is_killed_costs_no_result(events):
    """It may have held a lock that the others of its block need, so the block goes; what it had runs again."""
    trial = several()

    def kill(results):
        pid = int(results[-1].worker.split(":")[1])
        psutil.Process(pid).parent().kill()  # Parsl's worker, whose child ran the fragment

    with plugged(lambda: Parsl(heartbeat_period=1, heartbeat_threshold=4)) as executor:
        assert right(trial, run(trial, executor, 200, kill))
    lost = [event for event in events if event["event"] == "parsl_lost"]
    assert {event["what"] for event in lost} <= {"worker", "block"}
    assert sum(event["run_again"] for event in lost) >= 1


def test_an_interchange_that_ends_is_not_waited_for():
    """The run ends and says so; the logs are left, and processes are not."""
    trial = several()
    with plugged(Parsl) as executor:
        left = []

        def kill(results):
            mine = next(iter(pool._Kept.leased))
            left.extend([mine.folder, *blocks()])
            mine.site.htex.interchange_proc.kill()

        with pytest.raises(Exception, match=r"^Parsl's interchange has ended, without which .* Its logs are in '"):
            run(trial, executor, 20, kill)
    folder, *managers = left
    assert (folder / "mbexec" / "interchange.log").exists()
    assert not any(cmdline(psutil.Process(pid)) for pid in managers if psutil.pid_exists(pid))
