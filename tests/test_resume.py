"""Jobs that are changed, fail or are given up, and go on from what their store has; every execution is counted."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from tests.commands import BAD_INPUT, DONE, FAILED
from tests.restarts import COUNTED, Job, install_all

NFR = 5
LADDER = COUNTED + "\nladder = [{damping = 0.5}]"


@pytest.fixture
def job(tmp_path, install):
    return Job(tmp_path / "job", install_all(install))


def run(job, *words, **mood):
    """Run the job; exit code, and how often each fragment was begun, by its fragments and its basis."""
    before = job.begun()
    code, _, errors = job.call("run", *words, **mood)
    assert re.match(r"Store (\S*/)?job\.store: \d+ results?(, \d+ of them failures)?\n", errors)
    return code, job.counts(since=before)


def all_done(job):
    """Whether nothing is left to do, as status says."""
    code, levels = job.status()
    ntasks, done, failed, left = levels["all"]
    assert (code == DONE) == (ntasks == done)
    return code == DONE and failed == left == 0


def once(*orders):
    """Every set of so many of the fragments, once, each in its own basis."""
    sets = [str(list(each)) for order in orders for each in combinations(range(1, NFR + 1), order)]
    return Counter((each, each) for each in sets)


def test_the_second_run_runs_nothing(job):
    """Before, status says that everything is to do, and there is no store."""
    job.write(NFR)
    code, out, _ = job.call("status")
    assert (code, out.splitlines()[0]) == (FAILED, f"There is no store {job.store} yet.")
    assert job.status() == (FAILED, {"1": (5, 0, 0, 5), "2": (10, 0, 0, 10), "all": (15, 0, 0, 15)})
    assert not job.store.exists()
    assert run(job) == (DONE, once(1, 2))
    assert job.status() == (DONE, {"1": (5, 5, 0, 0), "2": (10, 10, 0, 0), "all": (15, 15, 0, 0)})
    assert run(job) == (DONE, Counter())


def test_a_higher_order(job):
    """After pairs, triples alone run; going back, nothing."""
    job.write(NFR, max_nbody=2)
    run(job)
    job.write(NFR, max_nbody=3)
    assert job.status()[1] == {"1": (5, 5, 0, 0), "2": (10, 10, 0, 0), "3": (10, 0, 0, 10), "all": (25, 15, 0, 10)}
    assert run(job) == (DONE, once(3))
    assert all_done(job)
    job.write(NFR, max_nbody=2)
    assert all_done(job)
    assert run(job) == (DONE, Counter())


def test_another_treatment(job):
    """After nocp, cp and vmfc run what has ghosts alone; all together then, nothing."""
    job.write(NFR)
    run(job)
    job.write(NFR, bsse="cp", max_nbody=2)
    left = job.status()[1]["all"][3]
    code, counts = run(job)
    everything = str([1, 2, 3, 4, 5])
    assert code == DONE
    assert counts == Counter((frag, everything) for frag, _ in once(1, 2))
    assert left == len(counts)
    job.write(NFR, bsse="vmfc")
    code, counts = run(job)
    assert code == DONE
    assert counts == Counter((frag, bas) for frag, _ in once(1) for bas, _ in once(2) if frag[1] in bas)
    job.write(NFR, bsse=["vmfc", "nocp", "cp"])
    assert all_done(job)
    assert run(job) == (DONE, Counter())


def test_one_more_fragment(job):
    """At the end of the geometry: what has it in it runs."""
    job.write(NFR)
    run(job)
    job.write(NFR + 1)
    assert job.status()[1]["all"] == (21, 15, 0, 6)
    code, counts = run(job)
    assert code == DONE
    assert counts == Counter((frag, frag) for frag in ["[6]", *(f"[{i}, 6]" for i in range(1, 6))])
    assert all_done(job)


@pytest.mark.parametrize(
    "words",
    [
        ("-w", 1),
        ("-w", 3),
        ("-e", "serial"),
        ("-e", "asyncio"),
        ("-e", "loky"),
        ("--set", "run.schedule=nbody"),
        ("--set", "task.ncores=1", "--set", "task.memory=0.5", "--set", "task.retries=2"),
        ("--set", "run.on_error=stop", "--set", "run.grace=1", "--set", "run.reporters=[]", "-q"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_what_does_not_decide_the_numbers(job, words):
    """Nothing runs again, and the same is written to the last bit."""
    job.write(NFR, driver="gradient")
    run(job)
    expected = job.output.read_bytes()
    job.output.unlink()
    before = job.begun()
    assert job.call("run", *words)[0] == DONE
    assert job.begun() == before
    assert job.output.read_bytes() == expected
    assert job.status(*(word for word in words if word != "-q"))[0] == DONE


@pytest.mark.parametrize(
    "change",
    [
        {"program": COUNTED + "\nkeywords = {rmin = {Ar = 7.0}}"},
        {"program": COUNTED.replace("lj-atm", "lj")},
        {"program": COUNTED + '\nbasis = "sto-3g"'},
        {"program": 'program = "model-potential"\nmethod = "lj-atm"'},
        {"driver": "gradient"},
    ],
    ids=["keywords", "method", "basis", "program", "driver"],
)
def test_what_decides_the_numbers(job, change):
    """Everything runs, and when that is taken back nothing does: both sets of results are there."""
    job.write(NFR)
    run(job)
    first = job.output.read_bytes()
    job.write(NFR, **change)
    assert job.status() == (FAILED, {"1": (5, 0, 0, 5), "2": (10, 0, 0, 10), "all": (15, 0, 0, 15)})
    code, counts = run(job)
    assert (code, counts) == (DONE, Counter() if "model-potential" in str(change) else once(1, 2))
    assert all_done(job)
    job.write(NFR)
    assert run(job) == (DONE, Counter())
    assert job.output.read_bytes() == first


def test_a_ladder_after_failures(job):
    """Only what failed runs, as given and with the rung; without the ladder, its results are none."""
    stubborn = ["[1]", "[0, 3]"]
    failing = Counter({("[2]", "[2]"): 1, ("[1, 4]", "[1, 4]"): 1})
    job.write(NFR)
    assert run(job, stubborn=stubborn) == (FAILED, once(1, 2))
    levels = {"1": (5, 4, 1, 0), "2": (10, 9, 1, 0), "all": (15, 13, 2, 0)}
    assert job.status() == (FAILED, levels)
    assert job.status("--set", "run.retry_failed=false") == (FAILED, levels)
    assert run(job, stubborn=stubborn) == (FAILED, failing)
    assert run(job, "--set", "run.retry_failed=false", stubborn=stubborn) == (FAILED, Counter())
    job.write(NFR, program=LADDER)
    assert job.status() == (FAILED, {"1": (5, 4, 0, 1), "2": (10, 9, 0, 1), "all": (15, 13, 0, 2)})
    assert run(job, "--set", "run.retry_failed=false", stubborn=stubborn) == (DONE, failing + failing)
    assert all_done(job)
    assert run(job, stubborn=stubborn) == (DONE, Counter())
    assert run(job, "--set", "run.retry_failed=false", stubborn=stubborn) == (DONE, Counter())
    job.write(NFR)
    assert job.status() == (FAILED, levels)
    assert run(job, "--set", "run.retry_failed=false") == (FAILED, Counter())
    assert run(job) == (DONE, failing)
    assert all_done(job)


def test_what_is_remembered_of_a_failure(job):
    """With retry_failed = false the same is said, and written, as by the run in which it happened."""
    job.write(NFR)
    code, out, _ = job.call("run", broken=["[1]"])
    written = job.output.read_bytes()
    again = job.call("run", "--set", "run.retry_failed=false", broken=["[1]"])
    assert (code, again[0]) == (FAILED, FAILED)
    *words, _, _ = out.splitlines()
    assert again[1].splitlines()[: len(words)] == words
    assert job.output.read_bytes() == written


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_stop_then_continue(job, executor):
    """What ran before the failure is kept; what failed and what was not begun runs then; a third run mends it."""
    job.write(NFR, max_nbody=3)
    broken = ["[0, 1]"]
    code, first = run(job, "-e", executor, "--set", "run.on_error=stop", broken=broken)
    assert code == FAILED
    assert 11 <= len(first) < 25  # triples come first
    assert max(first.values()) == 1
    counted = job.status()
    assert counted[0] == FAILED
    assert counted[1]["all"] == (25, len(first) - 1, 1, 25 - len(first))
    code, second = run(job, "-e", executor, broken=broken)
    assert code == FAILED
    assert second == once(1, 2, 3) - first + Counter({("[1, 2]", "[1, 2]"): 1})
    assert job.status() == (
        FAILED,
        {"1": (5, 5, 0, 0), "2": (10, 9, 1, 0), "3": (10, 10, 0, 0), "all": (25, 24, 1, 0)},
    )
    assert run(job, "-e", executor) == (DONE, Counter({("[1, 2]", "[1, 2]"): 1}))
    assert all_done(job)


def test_another_place_and_none(job, tmp_path):
    """Each store knows its own; without one nothing is kept, and there is no status."""
    job.write(NFR)
    run(job)
    elsewhere = ("--store", tmp_path / "elsewhere.store")
    before = job.begun()
    assert job.call("run", *elsewhere)[0] == job.call("run", "--no-store")[0] == DONE
    assert job.begun() == before + 30
    assert job.status(*elsewhere)[0] == DONE
    assert job.call("status", "--no-store") == (
        BAD_INPUT,
        "",
        "Error: There is no store to look into: run.store is false; give its path.\n",
    )
