"""Results that are none: they never get into a sum, and whoever gave them is named."""

import attrs
import numpy as np
import pytest

import mbexec
from mbexec import ExecutorError, InputError, PluginError, TaskResult, hookimpl
from tests.systems import argon, job

BAD = {
    "shape": ({"energy": 1.0, "gradient": np.zeros((1, 3))}, r"a gradient that is not \(\d, 3\) finite numbers"),
    "nan energy": ({"energy": float("nan"), "gradient": None}, "an energy that is not a finite number"),
    "text": ({"energy": "1.0"}, "no gradient"),
    "text energy": ({"energy": "1.0", "gradient": None}, "an energy that is not a finite number"),
    "infinite": ({"energy": 0.0, "gradient": np.full((3, 3), np.inf)}, "a gradient that is not"),
    "nothing": ({}, "no energy"),
    "no mapping": (None, "values of type NoneType"),
}


def giving(values):
    """An executor whose results have these values."""

    class Giving:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                yield TaskResult(task.index, values)

    return Giving


@pytest.mark.parametrize("case", BAD, ids=str)
def test_an_executor_that_gives_no_result_is_named(case, install):
    """Wrong shapes, types, infinities and missing numbers stop the run in a sentence."""
    values, words = BAD[case]
    install("giving-dist", {"giving": giving(values)})
    with pytest.raises(ExecutorError, match=rf"The executor 'giving' gave .* a result with {words}"):
        mbexec.run(job(argon(3), driver="gradient"), executor="giving")


@pytest.mark.parametrize("index", [1.0, [1], "1", None], ids=str)
def test_an_index_is_a_whole_number(index, install):
    """Anything else is no result."""

    class Misplaced:
        @hookimpl
        def submit_level(self, level, work):
            yield attrs.evolve(work(next(level)), index=index)

    install("misplaced-dist", {"misplaced": Misplaced})
    with pytest.raises(ExecutorError, match="The executor 'misplaced' gave "):
        mbexec.run(job(argon(3)), executor="misplaced")


def test_a_store_that_gives_no_result_is_named(install):
    """What comes from a store is looked at like what comes from an executor."""

    class Forgetful:
        @hookimpl
        def recall_results(self, tasks, keys):
            return [TaskResult(task.index, {"energy": float("nan")}) for task in tasks]

        @hookimpl
        def keep_result(self, task, key, result):
            pass

    install("forgetful-dist", {"forgetful": Forgetful})
    with pytest.raises(PluginError, match=r"The store 'forgetful' gave .* a result with an energy that is not"):
        mbexec.run(job(argon(3)), store="forgetful")


def test_a_reporter_cannot_change_the_result(install):
    """It sees values that it can't write to; it is left out of the run, and the result is right."""

    class Meddler:
        @hookimpl
        def report_metrics(self, event):
            if isinstance(event, mbexec.FragmentDone):
                event.result.values["energy"] = 0.0

    class Scribbler:
        @hookimpl
        def report_metrics(self, event):
            if isinstance(event, mbexec.FragmentDone):
                event.result.values["gradient"][:] = 0.0

    install("meddler-dist", {"meddler": Meddler})
    install("scribbler-dist", {"scribbler": Scribbler})
    tables = job(argon(3), driver="gradient")
    found = mbexec.run(tables, executor="serial", reporters=["meddler", "scribbler"])
    assert found.result.return_result.tobytes() == mbexec.run(tables, executor="serial").result.return_result.tobytes()


@pytest.mark.parametrize("swallow", [True, False], ids=["returns True", "raises"])
def test_leaving_a_plugin_neither_hides_an_error_nor_loses_a_result(swallow, install):
    """What __exit__ returns or raises changes nothing."""

    class Leaving:
        broken = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            if not swallow:
                raise RuntimeError("the door is stuck")
            return True

        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                yield TaskResult(task.index) if Leaving.broken else work(task)

    install("leaving-dist", {"leaving": Leaving})
    assert mbexec.run(job(argon(3)), executor="leaving").result.success
    Leaving.broken = True
    with pytest.raises(ExecutorError, match="no energy"):
        mbexec.run(job(argon(3)), executor="leaving")


@pytest.mark.parametrize("bsse", ["nocp", "vmfc"])
def test_an_expansion_beyond_all_bounds_is_refused_at_once(bsse):
    """Thirty fragments in full would fill the memory; the count and the cure are told."""
    with pytest.raises(InputError, match=r"30 fragments up to 30-body make .* fragment calculations; set max_nbody"):
        mbexec.plan(job(argon(30), bsse=bsse))
