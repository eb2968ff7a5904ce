"""The asyncio executor: where it runs, and what becomes of several runs of one fragment."""

import asyncio
import json
import threading
import time
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from structlog.testing import capture_logs

import mbexec
from mbexec import ConfigError, ExecutorError, hookimpl
from mbexec.core import engine
from tests.systems import argon, job

URANIUM = argon(3) + "\n--\nU 30.0 0.0 0.0"  # the model potential has no parameters for it
PARAMETERS = {"keywords": {"epsilon": {"U": 1e-4}, "rmin": {"U": 7.0}, "c9": {"U": 100.0}}}


@pytest.fixture
def unsteady(install):
    """Programs whose energy, or whose success, depends on how often a fragment was run before."""

    class Unsteady:
        name = "unsteady"
        thread_safe = True
        ghosts = "honoured"
        calls: ClassVar = Counter()
        lock = threading.Lock()
        outcomes = ()

        @staticmethod
        def found(raise_error=False):
            return True

        def get_version(self):
            return "1"

        def compute(self, input_data, config):
            from qcelemental.models.v2 import AtomicResult

            with self.lock:
                call = self.calls[input_data.molecule.get_hash()]
                self.calls[input_data.molecule.get_hash()] += 1
            outcome = self.outcomes[call % len(self.outcomes)]
            outcome = outcome() if callable(outcome) else outcome
            if isinstance(outcome, str):
                raise RuntimeError(outcome)
            return AtomicResult(
                input_data=input_data,
                molecule=input_data.molecule,
                return_result=outcome,
                properties={"return_energy": outcome},
                success=True,
                provenance={"creator": "unsteady"},
            )

    def giving(*outcomes):
        Unsteady.outcomes = outcomes
        Unsteady.calls.clear()
        return job(argon(2), max_nbody=1, return_total_data=True, program={"program": "unsteady", "method": "hf"})

    giving.calls = lambda: Unsteady.calls
    install("unsteady-program", {"unsteady": Unsteady}, group="mbexec.programs")
    return giving


def run(tables, **settings):
    plugin = {f"plugin.asyncio.{key}": value for key, value in settings.items()}
    return mbexec.run(tables, executor="asyncio", workers=2, **plugin)


def notes(tables, **settings):
    with capture_logs() as logs:
        found = run(tables, **settings)
    return found, [entry["note"] for entry in logs if entry["event"] == "fragment_note"]


def test_inside_a_running_loop():
    """A notebook has a loop running: the executor has its own."""

    async def cell():
        return mbexec.run(job(argon(4)), executor="asyncio").result.return_result

    assert asyncio.run(cell()) == mbexec.run(job(argon(4)), executor="serial").result.return_result


def test_beside_a_running_loop():
    """Awaited, it leaves the caller's loop free."""

    async def cell():
        ticks = 0
        task = asyncio.create_task(mbexec.arun(job(argon(12), max_nbody=3), executor="asyncio", workers=2))
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return task.result(), ticks

    found, ticks = asyncio.run(cell())
    assert found.result.success
    assert ticks > 1


def test_nothing_is_left_behind():
    """Neither a thread nor a loop, however the run ends."""
    before = threading.active_count()
    run(job(argon(4)))
    run(job(URANIUM))
    assert threading.active_count() == before


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_repeated_runs_agree(repeat):
    """The model potential gives the same bits each time, so repeats change nothing."""
    expected = mbexec.run(job(argon(5), driver="gradient"), executor="serial")
    found, told = notes(job(argon(5), driver="gradient"), repeat=repeat)
    assert found.result.return_result.tobytes() == expected.result.return_result.tobytes()
    assert told == []


def test_the_majority_wins(unsteady):
    """One run of three that differs is outvoted, and noted."""
    found, told = notes(unsteady(-1.0, -1.0, -1.0 + 1e-15), repeat=3)
    assert found.energies.tolist() == [-1.0, -1.0]
    assert told == ["1 of 3 runs of this fragment gave another result."] * 2


def test_a_failure_is_outvoted_too(unsteady):
    """A run that fails is a result like others: it holds its error."""
    found, told = notes(unsteady(-1.0, "a cosmic ray", -1.0), repeat=3)
    assert found.energies.tolist() == [-1.0, -1.0]
    assert len(told) == 2


def test_failures_that_agree_are_the_result():
    """A fragment that can't be computed fails with the program's words, however often it is run."""
    found = run(job(URANIUM), repeat=3)
    once = mbexec.run(job(URANIUM), executor="serial")
    assert found.result.error.extras["failed"] == once.result.error.extras["failed"]


def test_no_majority(unsteady):
    """Runs that all differ give no result, and nobody's is taken."""
    found = run(unsteady(-1.0, -2.0, -3.0), repeat=3)
    assert np.isnan(found.energies).all()
    (message,) = {entry["error_message"] for entry in found.result.error.extras["failed"]}
    assert message == "3 runs of this fragment gave no result that more than half of them agree on, to the last bit."
    assert {entry["error_type"] for entry in found.result.error.extras["failed"]} == {"random_error"}


def test_alternatives_one_after_another():
    """Where the given keywords fail, the first that work are used, for those fragments alone, and it is noted."""
    useless = {"keywords": {"epsilon": {"Ar": 4e-4}}}
    found, told = notes(job(URANIUM), merge="first_success", alternatives=[useless, PARAMETERS])
    assert found.result.success
    plain = mbexec.run(job(argon(3)), executor="serial")
    of_argon = [energy for task, energy in zip(found.plan, found.energies, strict=True) if 4 not in task.frag]
    assert of_argon == plain.energies.tolist()
    assert told == ["Attempt 3 succeeded."] * sum(4 in task.frag for task in found.plan)


def test_another_program():
    """An alternative may be another program, with keywords of its own."""
    spec = job(URANIUM, program={"program": "model-potential", "method": "lj", "keywords": {"c9": {"Ar": 1.0}}})
    other = {"program": "model-potential", "method": "lj", **PARAMETERS}
    assert run(spec, merge="first_success", alternatives=[other]).result.success


def test_nothing_helps():
    """If every attempt fails, the first one's words are told."""
    found = run(job(URANIUM), merge="first_success", alternatives=[{"keywords": {"epsilon": {"Ar": 4e-4}}}])
    once = mbexec.run(job(URANIUM), executor="serial")
    assert found.result.error.extras["failed"] == once.result.error.extras["failed"]


def test_the_same_again(unsteady):
    """Without alternatives, repeats are further attempts."""
    found, told = notes(unsteady("a cosmic ray", "another", -1.0), merge="first_success", repeat=3)
    assert found.energies.tolist() == [-1.0, -1.0]
    assert told == ["Attempt 3 succeeded."] * 2


def stopped(tables, stop, **settings):
    """A run on one worker, with a store, that a fragment stops."""
    plugin = {f"plugin.asyncio.{key}": value for key, value in settings.items()}
    given = {"run.executor": "asyncio", "run.workers": 1, "run.store": "kept.store", **plugin}
    return engine.execute(*engine.read_job(tables, given), stop)


@pytest.mark.parametrize(
    ("outcome", "settings"),
    [(-1.0, {"repeat": 3}), ("a cosmic ray", {"repeat": 3, "merge": "first_success"})],
    ids=["majority", "first_success"],
)
def test_a_stopped_run_begins_no_further_run_of_a_fragment(unsteady, outcome, settings):
    """Without a majority, or a success, the fragment did not fail but is left, and the next run begins it anew."""
    stop = threading.Event()
    tables = unsteady(lambda: stop.set() or outcome, -1.0, -1.0)
    found = stopped(tables, stop, **settings)
    assert unsteady.calls().total() == 1
    assert found.report.executed == found.report.failed == 0
    assert found.result.error.extras["failed"] == []
    again = stopped(unsteady(-1.0), threading.Event(), **settings)
    assert (again.report.executed, again.report.reused) == (2, 0)
    assert again.energies.tolist() == [-1.0, -1.0]


def test_a_majority_that_stands_is_kept_when_the_run_is_stopped(unsteady):
    """Two runs of three agree: the third would change nothing, and the next run need not begin the fragment."""
    stop = threading.Event()
    tables = unsteady(-1.0, lambda: stop.set() or -1.0, -1.0)
    assert stopped(tables, stop, repeat=3).report.executed == 1
    assert unsteady.calls().total() == 2
    again = stopped(unsteady(-1.0), threading.Event(), repeat=3)
    assert (again.report.executed, again.report.reused) == (1, 1)


def test_an_executor_that_puts_back_a_task_for_no_reason(tables, install):
    """The run goes on, so the executor owes the result."""

    class Lazy:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                level.put_back(task)
            yield from ()

    install("lazy", {"lazy": Lazy})
    with pytest.raises(ExecutorError, match="gave no result for"):
        mbexec.run(tables, executor="lazy")


@pytest.mark.parametrize("merge", ["majority", "first_success"])
def test_times_are_those_of_all_runs(unsteady, merge):
    """Not of the one that is taken: a fragment that runs three times takes three times as long."""

    def slow(outcome):
        def compute():
            time.sleep(0.02)
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            return outcome

        return compute

    bad = slow("a cosmic ray" if merge == "first_success" else -1.0)
    found = run(unsteady(bad, bad, slow(-1.0)), repeat=3, merge=merge)
    (level,) = found.report.levels
    assert level.executed == 2
    assert level.shortest >= 3 * 0.04
    assert level.cpu_time >= 2 * 3 * 0.02
    assert level.wall_time <= 2 * found.report.wall_time


def test_all_runs_of_a_fragment_are_one_workers(unsteady):
    """One after the other, so that no worker is busy with two fragments at once."""
    threads = {}

    def compute():
        threads.setdefault(threading.get_ident(), []).append(time.perf_counter())
        return -1.0

    tables = unsteady(compute)
    tables["molecule"]["geometry"] = argon(6)
    assert run(tables, repeat=3).energies.tolist() == [-1.0] * 6
    assert len(threads) <= 2
    assert {len(calls) % 3 for calls in threads.values()} == {0}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"repeat": 0}, "repeat"),
        ({"repeat": "3"}, "repeat"),
        ({"merge": "all_success"}, "merge"),
        ({"alternatives": [{"keywords": {}}]}, 'alternatives go with merge = "first_success"'),
        ({"merge": "first_success", "alternatives": [{"driver": "energy"}]}, "basis, keywords, method, program"),
        ({"merge": "first_success", "alternatives": ["pyscf"]}, "basis, keywords, method, program"),
    ],
    ids=json.dumps,
)
def test_settings_that_are_wrong(settings, words):
    """Each names what is wrong."""
    with pytest.raises(ConfigError, match=r"\[plugin.asyncio\]") as caught:
        run(job(argon(2)), **settings)
    assert words in str(caught.value)
