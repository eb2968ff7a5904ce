"""Workers between runs: warm, apart, up to date, replaced when worn."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from loky_cases import bits, failures, job, scratch, soon
from mbexec_loky import slots, worker

import mbexec
from mbexec import ConfigError, ExecutorError


def pids(toys):
    """Processes that ran something since the log was last looked at."""
    found = {int(line[1]) for line in toys.lines()}
    toys.log.unlink()
    return found


def test_workers_are_warm_across_runs_and_levels(toys):
    """Runs of different jobs, levels one after the other, and runs off the main thread use the same processes."""
    mbexec.run(toys.job(nfr=8, pause=0.01))
    first = pids(toys)
    assert len(first) == 2
    mbexec.run(toys.job(nfr=8, pause=0.01, retries=1), schedule="nbody")
    assert pids(toys) == first
    asyncio.run(mbexec.arun(toys.job(nfr=8, pause=0.01)))
    assert pids(toys) == first


def test_runs_at_once_have_workers_of_their_own(toys, tmp_path):
    """Three runs in threads: no process serves two of them, and each has its own result."""
    logs = [tmp_path / f"log{i}" for i in range(3)]
    jobs = []
    for log in logs:
        toys.log = log
        jobs.append(toys.job(nfr=8, pause=0.02))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(mbexec.run, jobs))
    assert len({bits(result) for result in found}) == 1
    used = []
    for log in logs:
        toys.log = log
        used.append(pids(toys))
    assert max(map(len, used)) == 2  # on a busy machine one may have done all before the other has started
    assert sum(map(len, used)) == len(set.union(*used))


@pytest.mark.filterwarnings("ignore:.*so threads would wait for each other")
def test_runs_at_once_may_use_different_numbers_of_cores(toys, tmp_path):
    """Each run's workers have its own number, for libraries and for programs."""
    jobs = []
    for ncores in (1, 2):
        toys.log = tmp_path / f"log{ncores}"
        jobs.append(toys.job(nfr=6, pause=0.02, ncores=ncores))
    with ThreadPoolExecutor() as pool:
        list(pool.map(mbexec.run, jobs))
    for ncores in (1, 2):
        toys.log = tmp_path / f"log{ncores}"
        assert {(line[2], line[3]) for line in toys.lines()} == {(str(ncores), str(ncores))}


def test_a_warm_worker_is_where_its_parent_is(toys, tmp_path, monkeypatch):
    """Working directory and environment of the parent at the run's beginning, and at each run's anew."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    mbexec.run(toys.job())
    first = toys.lines()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mbexec.run(toys.job())
    assert {line[4] for line in first} == {str(tmp_path)}
    assert {line[4] for line in toys.lines()[len(first) :]} == {str(tmp_path / "elsewhere")}
    assert {line[2] for line in toys.lines()} == {"1"}


def test_contexts_are_remembered(monkeypatch):
    """Two jobs in turn: each is sent to a worker once; after several others it is sent again."""
    sent = []
    begin = slots.Slot.begin

    def noted(self, work, idle_timeout, blob=None):
        sent.append(blob is not None)
        begin(self, work, idle_timeout, blob)

    monkeypatch.setattr(slots.Slot, "begin", noted)
    for nfr in (4, 5, 4, 5):
        mbexec.run(job(nfr), workers=1)
    assert sent == [False, True, False, True, False, False]
    sent.clear()
    for nfr in (6, 7, 8, 4):
        mbexec.run(job(nfr), workers=1)
    assert sent == [False, True] * 4


@pytest.mark.parametrize(("setting", "fewest", "most"), [({"recycle_after": 5}, 8, 5), ({"recycle_memory": 1}, 3, 36)])
def test_worn_workers_are_replaced(setting, fewest, most, toys):
    """After so many fragments, or when they hold more memory than allowed; the bits are the same."""
    found = mbexec.run(toys.job(nfr=8), **{f"plugin.loky.{key}": value for key, value in setting.items()})
    counts = Counter(line[1] for line in toys.lines())
    assert len(counts) >= fewest
    assert max(counts.values()) <= most
    assert bits(found) == bits(mbexec.run(toys.job(nfr=8), executor="serial"))


def test_idle_workers_leave():
    """After idle_timeout, with their files; the next run has new ones."""
    mbexec.run(job(), **{"plugin.loky.idle_timeout": 0.3})
    assert slots._idle
    assert soon(lambda: not any(slot.lives for slot in slots._idle))
    assert scratch() == []
    assert mbexec.run(job()).result.success


def test_an_idle_worker_that_was_killed_is_not_used():
    """Nor is one whose common parent was killed missed."""
    mbexec.run(job())
    for pid in (slots._idle[-1].pid, slots._nursery._process.pid):
        os.kill(pid, signal.SIGKILL)
    assert soon(lambda: not slots._idle[-1].lives and not slots._nursery._process.is_alive())
    assert mbexec.run(job(), workers=4).result.success


def test_a_worker_that_can_not_get_ready_says_why(toys, monkeypatch):
    """What it raised, in the parent; the worker is none the worse for it."""
    monkeypatch.setenv("ONLY_IN", str(os.getpid()))
    with pytest.raises(ExecutorError, match=r"^A worker process can't get ready for the run: ImportError: not in this"):
        mbexec.run(toys.job())
    monkeypatch.delenv("ONLY_IN")
    assert mbexec.run(toys.job()).result.success


def test_an_error_that_can_not_travel_is_told_in_words():
    """Others travel as they are, for the parent to chain."""

    class LocalError(Exception):
        pass

    sent = worker._portable(LocalError("of a class that no other process knows"))
    assert str(sent) == "LocalError: of a class that no other process knows"
    assert worker._portable(error := OSError("a plain one")) is error


def test_workers_that_all_die_at_once_are_given_up(monkeypatch):
    """Not started for ever."""
    begin = slots.Slot.begin

    def fatal(self, *arguments):
        os.kill(self.pid, signal.SIGKILL)
        begin(self, *arguments)

    monkeypatch.setattr(slots.Slot, "begin", fatal)
    with pytest.raises(ExecutorError, match=r"^Worker processes die before they have run anything, 21 of them now; "):
        mbexec.run(job())


def test_workers_that_can_not_be_started(monkeypatch):
    """The process that they are forked from dies each time."""
    from mbexec_loky.nursery import Nursery

    start = Nursery.start

    def fatal(self):
        start(self)
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    monkeypatch.setattr(Nursery, "start", fatal)
    while slots._idle:
        slots.discard(slots._idle.pop())
    with pytest.raises(ExecutorError, match=r"^No worker process can be started: 3 times the one that they are forked"):
        mbexec.run(job())


def test_scratch_that_can_not_be():
    """Said before anything runs."""
    with pytest.raises(
        ConfigError, match=r"^No scratch directory can be made in '/proc': .*\. Set task.scratch_directory"
    ):
        mbexec.run(job(scratch_directory="/proc"))


def test_scratch_that_nobody_needs(tmp_path):
    """A directory that is not there is a matter of the programs that use it."""
    assert mbexec.run(job(scratch_directory=str(tmp_path / "nowhere"))).result.success
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("setting", "value"), [("recycle_after", 0), ("recycle_after", 1.5), ("recycle_memory", -1), ("chunk_time", 0)]
)
def test_settings_that_can_not_be(setting, value):
    """Refused with the table that they stand in."""
    with pytest.raises(ConfigError, match=r"^\[plugin.loky\] \{.*\} is not accepted: "):
        mbexec.run(job(), **{f"plugin.loky.{setting}": value})


@pytest.mark.filterwarnings("ignore:.*so threads would wait for each other")
def test_cores_and_time_by_the_number_of_bodies(toys):
    """Threads of numerical libraries change from fragment to fragment; only pairs have so little time."""
    given = toys.job({"[0, 1]": "hang", "[2]": "try twice"}, nfr=3, retries=1, **{"2": {"ncores": 2, "timeout": 0.5}})
    found = mbexec.run(given)
    (failed,) = failures(found).values()
    assert failed["label"] == '["(auto)", [1, 2], [1, 2]]'
    assert "longer than task.timeout = 0.5 s" in failed["error_message"]
    cores = {line[0]: (line[2], line[3]) for line in toys.lines()}
    assert cores == {"[0]": ("1", "1"), "[1]": ("1", "1"), "[2]": ("1", "1")} | dict.fromkeys(
        ("[0, 1]", "[0, 2]", "[1, 2]"), ("2", "2")
    )


def page_faults():
    """How often the system gave memory to each process that descends from this one."""
    children = psutil.Process().children(recursive=True)
    return Counter(
        {
            child.pid: int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[7])
            for child in children
        }
    )


def test_workers_keep_freed_memory_for_the_next_array():
    """Once warm, they ask the system for next to none, in calculations with arrays of 0.2 MiB."""
    atoms = [f"Ar {3.9 * x} {3.9 * y} {3.9 * z}" for x in range(3) for y in range(3) for z in range(20)]
    tables = job(program={"program": "model-potential", "method": "lj-atm"}, driver="gradient")
    tables["molecule"]["geometry"] = "\n--\n".join("\n".join(atoms[i::10]) for i in range(10))
    mbexec.run(tables)
    before = page_faults()
    count = mbexec.run(tables).report.ntasks
    assert sum((page_faults() - before).values()) < 10 * count
