"""Runs that are killed at any moment and started again: no result that was kept is lost, or computed again."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import pytest
from attrs import define, field
from structlog.testing import capture_logs

from mbexec.plugins.sqlite import Sqlite
from tests.restarts import PATIENCE, Job, install_all, kill, processes, soon
from tests.stores import asked, check, keep, made
from tests.systems import WATER_HEXAMER

ROOT = Path(__file__).parents[1]

EXECUTORS = ["serial", "threads", "asyncio", "loky"]
WAYS = ["parent", "group", "draining"]
TRIMERS = {"nfr": 13, "max_nbody": 3, "driver": "gradient"}
SIZE = 377
PAUSE = 0.005
# Tasks that an executor has pulled and not given the results of, at most: of loky's workers, each has those of 0.05 s.
IN_FLIGHT = {"serial": 1, "threads": 4, "asyncio": 4, "loky": 20}
NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]
WORDS = re.compile(
    r"Store \S*job\.store: \d+ results?|\d+ fragment calculations on \w+, workers: \d|"
    r"\d+ of \d+ fragment calculations done( \(\d+% of the time\))?(, \d+ reused)?"
    r"(; about [\w ]+ left)?(; running: .*)?|"
    r"Stopping \(SIGTERM\): (nothing new|no calculation has begun, and none) is started[.,] .*|"
    r"Interrupted: \d+ of \d+ fragment calculations are done\. The same command goes on from there\."
)

MAKING = """
import os
import signal
import sqlite3
import sys

from mbexec.plugins.sqlite import Sqlite
from tests.stores import made

connect = sqlite3.connect


def watched(*given, **settings):
    connection = connect(*given, **settings)
    connection.set_trace_callback(count_down)
    return connection


def count_down(statement):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)


def use(path, pipe):
    sqlite3.connect = watched
    with Sqlite(path) as store:
        for each in zip(*made(2)):
            store.keep_result(*each)
            os.write(pipe, b".")
    sqlite3.connect = connect  # whatever else uses SQLite when this process ends is not counted


status, number = None, 0
while status != 0:
    ours, theirs = os.pipe()
    left = number + 1
    if not (child := os.fork()):
        try:
            use(f"{sys.argv[1]}/{number}.store", theirs)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(theirs)
    status = os.waitpid(child, 0)[1]
    print(len(os.read(ours, 10)), flush=True)
    os.close(ours)
    number += 1
"""

REAL = """
    from counted_program import note
    from mbexec_pyscf import PySCFHarness

    class CountedPySCF(PySCFHarness):
        _defaults = {**PySCFHarness._defaults, "name": "counted-pyscf"}

        def compute(self, input_data, config):
            note("began", input_data.molecule.name)
            found = super().compute(input_data, config)
            note("ended", input_data.molecule.name)
            return found
"""


@pytest.fixture
def sites(install):
    return install_all(install)


@pytest.fixture
def job(tmp_path, sites):
    return Job(tmp_path / "job", sites)


@pytest.fixture(scope="session")
def calm():
    """What undisturbed runs wrote, by the text of their jobs."""
    return {}


def undisturbed(calm, job):
    """The bytes that a run of the job writes that nobody disturbs, without a store."""
    text = (job.folder / "job.toml").read_text()
    if text not in calm:
        other = Job(job.folder.with_name(f"{job.folder.name}-calm"), job.sites)
        (other.folder / "job.toml").write_text(text)
        code, _, errors = other.call("run", "--no-store", "-e", "serial")
        assert code == 0, errors
        calm[text] = other.output.read_bytes()
    return calm[text]


@define
class Storm:
    """Kills, and what they cost.

    Attributes
    ----------
    calm
        What undisturbed runs wrote.
    ended, begun
        For each kill, how many fragments had been computed, and how many begun, and were not kept.
    delays
        Seconds from the end of a fragment until its result was kept, of all results.
    """

    calm: dict[str, bytes]
    ended: list[int] = field(factory=list)
    begun: list[int] = field(factory=list)
    delays: list[float] = field(factory=list)

    def blow(self, job, kills, *words, size=SIZE, **mood):
        """Run the job, kill it at random moments, run it again; after so many kills to its end."""
        ways = cycle(random.sample(WAYS, 3))
        kills += len(self.begun)
        before = Look(job)
        while not before.finished:
            process = job.start("run", *words, **mood)
            if len(self.begun) < kills:
                wait_a_while(job, process, len(before.began), size - len(before.kept))
                killed = kill(process, next(ways))
            else:
                killed = False
                process.wait(PATIENCE)
            after = Look(job, process)
            self.compare(before, after, killed)
            before = after
        assert job.output.read_bytes() == undisturbed(self.calm, job)
        assert job.recorded() == size
        self.delays += [kept - ended for _, ended, kept in job.ledger()]

    def compare(self, before, after, killed):
        """What a run has done to what there was before it."""
        began = set(after.began[len(before.began) :])
        assert not began & before.kept
        assert before.kept <= after.kept
        for line in after.said:
            if line.startswith("Store "):
                assert line.endswith(f".store: {len(before.kept)} result{'s' * (len(before.kept) != 1)}")
        if interrupted := re.match(r"Interrupted: (\d+) of", after.said[-1] if after.said else ""):
            assert int(interrupted[1]) == len(after.kept)
        if killed:
            self.begun.append(len(began - after.kept))
            self.ended.append(len(set(after.ended[len(before.ended) :]) - after.kept))

    def told(self):
        """For people."""
        delays = [1e3 * delay for delay in sorted(self.delays)]
        middle, most, longest = delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1]
        return (
            f"{len(self.begun)} kills. Computed and lost at each: {max(self.ended)} at most, {sum(self.ended)} in all; "
            f"begun and lost: {max(self.begun)} at most, {sum(self.begun)} in all. From the end of a fragment until it "
            f"was kept: median {middle:.1f} ms, 99% {most:.1f} ms, longest {longest:.1f} ms."
        )


class Look:
    """What there is when a run has ended, however it has.

    Attributes
    ----------
    kept
        Fragments with a result in the store.
    began, ended
        Fragments in the order in which their computations were.
    said
        Lines on standard error.
    finished
        Whether the run did what it was to do.
    """

    def __init__(self, job, process=None):
        assert soon(lambda: not processes(str(job.folder)))
        assert list(job.temporary.iterdir()) == []
        self.kept = job.kept()
        self.began = [fragment for fragment, _ in job.notes("began")]
        self.ended = [fragment for fragment, _ in job.notes("ended")]
        assert {fragment for fragment, _, _ in job.ledger()} <= self.kept
        assert job.recorded() <= len(self.kept)
        self.said = job.said("err").read_text().splitlines() if process is not None else []
        assert [line for line in self.said if not WORDS.fullmatch(line)] == []
        self.finished = process is not None and process.returncode == 0
        assert job.litter() <= (set() if self.finished else {"job.store-wal", "job.store-shm"})
        if process is not None and random.random() < 0.3:
            code, levels = job.status()
            ntasks, *counts = levels["all"]
            assert (code == 0) == (len(self.kept) == ntasks)
            assert counts == [len(self.kept), 0, ntasks - len(self.kept)]


def wait_a_while(job, process, begun, left):
    """Until a random number of further fragments were begun, or for a random time, also while a run gets ready."""
    if random.random() < 0.2:
        time.sleep(random.uniform(0, 1.5))
        return
    begun += random.randint(1, 1 + left // 2)
    assert soon(lambda: job.begun() >= begun or process.poll() is not None)
    time.sleep(random.uniform(0, 2 * PAUSE))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=NIGHTLY)])
def test_kill_9_at_random_moments(tmp_path, sites, calm, executor, kills, capfd):
    """Of the parent, of its group, of one that was told to stop: then it goes on, and the result is the same."""
    found = Storm(calm)
    while (left := kills - len(found.begun)) > 0:
        job = Job(tmp_path / f"after-{len(found.begun)}-kills", sites)
        job.write(**TRIMERS)
        found.blow(job, min(left, 5), "-e", executor, pause=PAUSE)
    with capfd.disabled():
        print(f"\n{executor}: {found.told()}")
    assert max(found.begun) <= IN_FLIGHT[executor]


@pytest.mark.parametrize(
    ("executor", "places"),
    [("threads", ["new 20", "started", "reused 1", "reused 20"]), ("loky", ["new 20", "reused 10"])],
)
def test_kill_9_while_results_are_recalled(job, executor, places):
    """Before the first, after the first, after the last: what was kept stays kept, and nothing of it runs again."""
    job.write(nfr=8, max_nbody=2)
    for place in places:
        process = job.start("run", "-e", executor, die=place)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        assert soon(lambda: not processes(str(job.folder)))
        assert list(job.temporary.iterdir()) == []
        kept = job.kept()
        assert kept == {fragment for fragment, _, _ in job.ledger()}
        assert len(kept) == 20
        begun = job.begun()
    code, _, errors = job.call("run", "-e", executor)
    assert (code, errors.splitlines()[0]) == (0, f"Store {job.store.name}: 20 results")
    assert not job.counts(since=begun).keys() & kept
    assert len(job.counts()) == len(job.kept()) == 36


def test_kill_9_while_the_store_is_made(tmp_path):
    """Before each statement that it gives to SQLite, from the first one to the last of two results."""
    command = [sys.executable, "-c", MAKING, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    acknowledged = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    assert done.stderr == ""
    assert sorted(acknowledged) == acknowledged
    assert set(acknowledged) == {0, 1, 2}
    assert len(acknowledged) > 10
    given = made(4)
    for number, count in enumerate(acknowledged):
        path = tmp_path / f"{number}.store"
        with capture_logs() as logs, Sqlite(path) as store:
            assert check(store, *given) >= set(range(count))
            keep(store, *given)
        with Sqlite(path) as store:
            assert check(store, *given) == set(range(4))
        assert [entry for entry in logs if entry["log_level"] != "debug"] == []
        assert asked(path, "PRAGMA journal_mode") == [("wal",)]
        assert [each.name for each in tmp_path.glob(f"{number}.store*")] == [path.name]


def test_two_runs_share_a_store_and_one_is_killed(tmp_path, sites, calm):
    """Their jobs overlap; both get their results, and few fragments are computed twice."""
    jobs = [Job(tmp_path / name, sites) for name in ("small", "large")]
    for job, nfr, executor in zip(jobs, (12, 13), ("threads", "loky"), strict=True):
        job.write(**TRIMERS | {"nfr": nfr}, run=f'executor = "{executor}"')
    store = ("--store", tmp_path / "shared.store")
    small, large = (job.start("run", *store, pause=0.02) for job in jobs)
    assert soon(lambda: jobs[0].begun() > random.randint(20, 100))
    assert kill(small, "parent")
    assert soon(lambda: not processes(str(jobs[0].folder)))
    again = jobs[0].start("run", *store, pause=0.02)
    assert [large.wait(PATIENCE), again.wait(PATIENCE)] == [0, 0]
    for job in jobs:
        assert job.output.read_bytes() == undisturbed(calm, job)
    counts = jobs[0].counts() + jobs[1].counts()
    assert len(counts) == SIZE
    assert max(counts.values()) <= 3
    twice = sum(counts.values()) - SIZE
    assert twice <= SIZE // 5  # 298 fragments are in both; 18 to 28 were computed twice when this was written
    assert all(job.counts() for job in jobs)


@pytest.mark.qc
@pytest.mark.parametrize(("executor", "kills"), [("threads", 4), pytest.param("loky", 6, marks=NIGHTLY)])
def test_kill_9_with_a_real_program(tmp_path, sites, install, calm, executor, kills, capfd):
    """While PySCF computes gradients of up to four water molecules at a time."""
    sites = [*sites, install("counted-pyscf", {"counted-pyscf": "CountedPySCF"}, source=REAL, group="mbexec.programs")]
    found = Storm(calm)
    while (left := kills - len(found.begun)) > 0:
        job = Job(tmp_path / f"after-{len(found.begun)}-kills", sites)
        given = 'program = "counted-pyscf"\nmethod = "hf"\nbasis = "sto-3g"'
        job.write(geometry="--".join(WATER_HEXAMER.split("--")[:4]), max_nbody=4, program=given, driver="gradient")
        found.blow(job, left, "-e", executor, size=15)
    with capfd.disabled():
        print(f"\n{executor}: {found.told()}")
    assert max(found.begun) <= IN_FLIGHT["threads"]
