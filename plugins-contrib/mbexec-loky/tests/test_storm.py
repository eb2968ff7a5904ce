"""Workers killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
from loky_cases import bits, scratch
from mbexec_loky import slots

import mbexec


class Killer(threading.Thread):
    """Kills so many workers, one after the other, each a moment after the last, while much is still to do."""

    def __init__(self, toys, kills, tasks):
        super().__init__()
        self.toys, self.kills, self.tasks = toys, kills, tasks
        self.killed = set()

    def run(self):
        chance = random.Random(self.kills)
        while len(self.killed) < self.kills:
            time.sleep(chance.uniform(0.0, 0.15))
            alive = [slot.pid for slot in list(slots._leased) if slot.pid not in self.killed and slot.lives]
            started = len(self.toys.starts()) if self.toys.log.exists() else 0
            if started > 0.9 * self.tasks:
                return
            if alive and started:
                self.killed.add(pid := chance.choice(alive))
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("kills", "nfr"), [(20, 26), pytest.param(200, 84, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)
def test_a_storm_changes_nothing(kills, nfr, toys, events):
    """The same bits as in calm; only what a worker died over is run again, once; no worker and no file is left."""
    expected = bits(mbexec.run(toys.job(nfr=nfr), executor="serial"))
    toys.log.unlink()
    ntasks = nfr * (nfr + 1) // 2
    killer = Killer(toys, kills, ntasks)
    killer.start()
    found = mbexec.run(toys.job(nfr=nfr, pause=0.03))
    killer.join()
    assert len(killer.killed) == kills
    assert bits(found) == expected
    culprits = [event for event in events if event["event"] == "worker_died"]
    assert len(culprits) <= kills
    blamed = {str([int(i) - 1 for i in event["label"].split("[")[2].split("]")[0].split(",")]) for event in culprits}
    starts = toys.starts()
    assert len(starts) == ntasks
    assert {frag for frag, count in starts.items() if count > 1} <= blamed
    assert max(starts.values()) <= 2
    assert not [pid for pid in killer.killed if os.path.exists(f"/proc/{pid}/exe") and _runs(pid)]
    assert scratch() == []
    assert slots._leased == set()


def _runs(pid):
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False
