"""What a run makes of a store: what it asks for, what it takes for an answer, and what it gives to keep."""

from __future__ import annotations

import json
from contextlib import suppress

import attrs
import numpy as np
import pytest
import structlog

import mbexec
from mbexec import TaskResult, hookimpl
from tests.systems import PYSCF, WATER_TRIMER, argon, job

URANIUM = "Ar 0 0 0\n--\nU 0 0 3.8\n--\nAr 0 3.8 0"


class Memory:
    """A store that keeps results by key, and what it was asked and given."""

    def __init__(self):
        self.kept = {}
        self.asked = []
        self.given = []

    def plugin(self, **attributes):
        memory = self

        class Store:
            @hookimpl
            def recall_results(self, tasks, keys):
                memory.asked += [task.label for task in tasks]
                found = [(task, memory.kept.get(key)) for task, key in zip(tasks, keys, strict=True)]
                return [attrs.evolve(result, index=task.index) for task, result in found if result is not None]

            @hookimpl
            def keep_result(self, task, key, result):
                memory.given.append(task.label)
                memory.kept[key] = result

        for name, value in attributes.items():
            setattr(Store, name, value)
        return Store


@pytest.fixture
def memory(install):
    """What the store named "memory" knows."""
    found = Memory()
    install("strange-store", {"memory": found.plugin()})
    return found


def run(tables, **settings):
    return mbexec.run(tables, executor="serial", store="memory", **settings)


def executed(found):
    return sum(level.executed for level in found.report.levels)


def test_a_longer_expansion_takes_what_is_there(memory):
    """After 2-body, 3-body runs the trimers; another treatment, what it alone needs; one more fragment, what is new."""
    run(job(argon(4), max_nbody=2))
    assert executed(run(job(argon(4), max_nbody=3))) == 4
    assert executed(run(job(argon(4), bsse="cp", max_nbody=2))) == 10
    assert executed(run(job(argon(5), max_nbody=2))) == 5


def test_the_numbers_are_those_of_a_run_without_a_store(memory):
    """To the last bit, wherever the results are from."""
    for driver in ("energy", "gradient", "hessian"):
        tables = job(argon(4), driver=driver, bsse=["nocp", "vmfc"], max_nbody=2)
        expected = mbexec.run(tables, executor="serial").result
        first, second = run(tables), run(tables)
        assert executed(first)
        assert not executed(second)
        for found in (first.result, second.result):
            assert found.properties.serialize("json") == expected.properties.serialize("json")
            assert np.array_equal(found.return_result, expected.return_result)


def test_a_gradient_has_the_energy_too(memory):
    """Energies are taken from gradients that are there, never the other way."""
    run(job(argon(3), driver="gradient"))
    found = run(job(argon(3)))
    assert not executed(found)
    assert found.result.return_result == mbexec.run(job(argon(3))).result.return_result
    run(job(argon(4)))
    assert executed(run(job(argon(4), driver="gradient"))) == 8


def test_a_result_without_the_properties_asked_for_is_no_answer(memory):
    """The fragment is computed again, and its result takes the place of the poorer one."""
    tables = job("He 0 0 0\n--\nHe 0 0 3", max_nbody=2, program={**PYSCF, "basis": "sto-3g"})
    run(tables)
    richer = json.loads(json.dumps(tables))
    richer["mbe"]["properties"] = ["scf_dipole_moment"]
    assert executed(run(richer)) == executed(run(tables)) + 3 == 3
    assert not executed(run(richer))


def test_whole_results_are_an_answer_only_with_their_body(memory):
    """For cluster_results = "all" numbers are not enough, nor is the body of a gradient an energy's."""
    run(job(argon(3), max_nbody=2))
    assert executed(run(job(argon(3), max_nbody=2, cluster_results="all"))) == 6
    again = run(job(argon(3), max_nbody=2, cluster_results="all"))
    assert not executed(again)
    assert len(again.result.cluster_results) == 6
    run(job(argon(4), max_nbody=2, cluster_results="all", driver="gradient"))
    assert executed(run(job(argon(4), max_nbody=2, cluster_results="all"))) == 4


def test_a_store_that_wants_bodies_gets_them(install):
    """Its attribute says so; the result does not have them for that."""
    memory = Memory()
    install("whole-store", {"memory": memory.plugin(bodies=True)})
    found = run(job(argon(3), max_nbody=2))
    assert all(json.loads(result.body)["success"] for result in memory.kept.values())
    assert not found.result.cluster_results


def test_failures_run_again_unless_told_otherwise(memory):
    """A failure is remembered; whether that is enough is up to retry_failed."""
    first = run(job(URANIUM, max_nbody=1))
    assert not first.result.success
    assert executed(run(job(URANIUM, max_nbody=1))) == 1
    third = run(job(URANIUM, max_nbody=1), retry_failed=False)
    assert executed(third) == 0
    assert third.report.failed == 1
    assert third.result.error.error_message == first.result.error.error_message


def test_a_success_counts_more_than_a_failure(memory, install):
    """An energy that failed is there all the same if the gradient came out well, whatever retry_failed says."""
    install("moody-program", {"moody": "Moody"}, group="mbexec.programs", source=MOODY)
    tables = job(argon(3), max_nbody=1, program={"program": "moody", "method": "lj-atm"})
    assert run(tables).report.failed == 3
    assert not executed(run(tables, retry_failed=False))
    assert run({**tables, "mbe": {**tables["mbe"], "driver": "gradient"}}).result.success
    found = run(tables, retry_failed=False)
    assert found.result.success
    assert not executed(found)


MOODY = """
    from mbexec.core.potential import ModelPotential

    class Moody(ModelPotential):
        name = "moody"

        def compute(self, input_data, config):
            if input_data.specification.driver == "energy":
                raise RuntimeError("No energies today.")
            return super().compute(input_data, config)
"""


def test_a_longer_ladder_is_still_to_be_tried(memory):
    """What failed without it may work with it, so that failure is none of this run."""
    fails = {"program": "toy-potential", "method": "lj", "keywords": {"fail": "convergence_error"}}
    short, long = (job(argon(2), max_nbody=2, program={**fails, **more}) for more in ({}, {"ladder": [{"sleep": 0}]}))
    assert executed(run(short)) == 3
    assert executed(run(short, retry_failed=False)) == 0
    assert executed(run(long, retry_failed=False)) == 3
    assert executed(run(long, retry_failed=False)) == 0


def test_another_run_may_bring_a_result_meanwhile(install):
    """The store is asked once more as each task is about to run; what came since does not run."""
    memory = Memory()
    plugin = memory.plugin()
    install("strange-store", {"memory": plugin})
    tables = job(argon(4), max_nbody=2)
    run(tables)
    everything, memory.kept = memory.kept, {}

    class Late(plugin):
        @hookimpl
        def keep_result(self, task, key, result):
            memory.given.append(task.label)
            memory.kept = dict(everything)

    install("late-store", {"late": Late})
    memory.given.clear()
    found = mbexec.run(tables, executor="serial", store="late")
    assert len(memory.given) == executed(found) == 1
    assert sum(level.reused for level in found.report.levels) == 9
    assert found.result.return_result == mbexec.run(tables).result.return_result


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky", "dask", "parsl"])
def test_every_executor_goes_on_when_tasks_fall_away(install, executor):
    """Those that another run brings are left out while the level is pulled."""
    memory = Memory()
    plugin = memory.plugin()
    install("strange-store", {"memory": plugin})
    tables = job(argon(8), max_nbody=3)
    expected = run(tables)
    everything, memory.kept = memory.kept, {}

    class Late(plugin):
        @hookimpl
        def keep_result(self, task, key, result):
            with suppress(StopIteration):
                key = next(key for key in everything if key not in memory.kept)
                memory.kept[key] = everything[key]

    install("late-store", {"late": Late})
    found = mbexec.run(tables, executor=executor, store="late", workers=2)
    assert found.result.return_result == expected.result.return_result
    assert executed(found) + sum(level.reused for level in found.report.levels) == len(found.plan)
    assert executed(found) < len(found.plan)


def test_runs_that_share_a_store_start_in_different_orders(memory):
    """Among fragments that cost the same, chance decides: two runs then seldom compute the same one at once."""
    orders = []
    for _ in range(2):
        memory.given.clear()
        memory.kept.clear()
        run(job(argon(6), max_nbody=2))
        orders.append(list(memory.given))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    pairs = [{label.count(",") for label in order[:15]} for order in orders]
    assert pairs == [{4}, {4}]  # the costliest are first in any order


def test_results_of_a_program_without_a_version_are_not_kept(memory, install):
    """The next version's would be taken for them; it is said once."""
    install("nameless-program", {"nameless": "Nameless"}, group="mbexec.programs", source=NAMELESS)
    tables = job(argon(3), max_nbody=2, program={"program": "nameless", "method": "lj-atm"})
    with structlog.testing.capture_logs() as logs:
        assert run(tables).result.success
    assert not memory.kept
    (said,) = [log for log in logs if log["event"] == "results_not_kept"]
    assert (said["program"], said["why"]) == ("nameless", "it tells no version")


NAMELESS = """
    from mbexec.core.potential import ModelPotential

    class Nameless:
        name = "nameless"
        thread_safe = True
        found = staticmethod(ModelPotential.found)

        def compute(self, input_data, config):
            return ModelPotential().compute(input_data, config)
"""


def test_a_result_of_the_wrong_size_stops_the_run(install):
    """A store that gives what can't be is broken."""

    class Confused:
        @hookimpl
        def recall_results(self, tasks, keys):
            return [TaskResult(task.index, {"energy": 1.0, "gradient": np.zeros((7, 3))}) for task in tasks]

        @hookimpl
        def keep_result(self, task, key, result):
            raise AssertionError

    install("confused-store", {"memory": Confused})
    with pytest.raises(mbexec.PluginError, match=r"a result with a gradient that is not \(1, 3\) finite numbers"):
        run(job(argon(3), driver="gradient", max_nbody=1))


def test_the_water_trimer_from_a_store(memory):
    """Ghosts and all, with gradients of the model potential, in another treatment's order."""
    both = job(WATER_TRIMER, bsse=["nocp", "cp"], driver="gradient")
    run(both)
    for bsse in ("nocp", "cp"):
        found = run(job(WATER_TRIMER, bsse=bsse, driver="gradient"))
        assert not executed(found)
