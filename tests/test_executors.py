"""One answer from every executor."""

import sys
from collections import OrderedDict
from itertools import product

import numpy as np
import pytest

import mbexec
from mbexec import NeedContext, Plan, Work, run_chunk
from tests.systems import PYSCF, WATER_TRIMER, argon, job

EXECUTORS = ["serial", "threads", "asyncio", "loky", "dask", "parsl"]
EVERYTHING = ["cp", "nocp", "vmfc"]


def bits(found):
    """Every number of a result, to the last bit."""
    assert found.result.success, found.result.error.error_message
    properties = found.result.properties.model_dump()
    return {
        **{key: np.asarray(value).tobytes() for key, value in properties.items() if not isinstance(value, str)},
        "energies": found.energies.tobytes(),
    }


@pytest.fixture(scope="module")
def many_fragments():
    """2,324 fragments of argon on the model potential, run one after the other."""
    tables = job(argon(24), bsse="nocp", max_nbody=3, driver="gradient")
    found = mbexec.run(tables, executor="serial")
    assert len(found.plan) == 24 + 276 + 2024
    return tables, bits(found)


def ways():
    """How to run them; all of the rest at night: of one worker of `serial` there is nothing more to see."""
    usual = {("cost", 2), ("nbody", 4), ("cost", 1)}
    for executor, schedule, workers in product(EXECUTORS, ["cost", "nbody"], [1, 2, 4]):
        few = workers == 1 if executor == "serial" else (schedule, workers) in usual
        yield pytest.param(executor, schedule, workers, marks=[] if few else pytest.mark.nightly)


@pytest.mark.parametrize(("executor", "schedule", "workers"), list(ways()))
def test_the_same_bits_on_the_model_potential(executor, schedule, workers, many_fragments):
    """More than 2,000 fragments: gradients and all, whatever the executor, the order and the number of workers."""
    tables, expected = many_fragments
    assert bits(mbexec.run(tables, executor=executor, workers=workers, schedule=schedule)) == expected


@pytest.mark.qc
@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_the_same_bits_on_the_water_trimer(driver):
    """HF/6-31G of PySCF, 19 fragments, all treatments."""
    tables = job(WATER_TRIMER, bsse=EVERYTHING, driver=driver, program=PYSCF)
    found = [bits(mbexec.run(tables, executor=executor, workers=2)) for executor in EXECUTORS]
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("executor", EXECUTORS)
def test_failing_fragments_do_not_stop_the_others(executor):
    """Each failure is reported under its label; everything else ran."""
    geometry = argon(6) + "\n--\nU 30.0 0.0 0.0"
    found = mbexec.run(job(geometry, max_nbody=2), executor=executor, workers=2)
    assert not found.result.success
    failed = {entry["label"] for entry in found.result.error.extras["failed"]}
    assert failed == {task.label for task in found.plan if 7 in task.frag}
    assert np.isfinite(found.energies).sum() == len(found.plan) - len(failed)
    assert found.report.failed == len(failed)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_tasks_are_pulled_a_window_at_a_time(executor, monkeypatch):
    """An executor that has given few results has pulled few tasks."""
    pulled = []
    make = Plan.__getitem__
    monkeypatch.setattr(Plan, "__getitem__", lambda plan, index: pulled.append(index) or make(plan, index))
    spread = []

    from mbexec.core.loop import Run

    original = Run._taken

    def taken(self, *given):
        spread.append(len(pulled) - int(self._seen.sum()))
        return original(self, *given)

    monkeypatch.setattr(Run, "_taken", taken)
    found = mbexec.run(job(argon(24), max_nbody=3), executor=executor, workers=2)
    assert len(found.plan) > 2 * 4 * 256
    assert (
        max(spread)
        <= {"serial": 1, "threads": 4, "asyncio": 4, "loky": 4 * 256, "dask": 2 * 512, "parsl": 4 * 256}[executor]
    )


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_is_used_for_several_runs(executor):
    """Two runs of different jobs, one after the other, each with its own answer."""
    first = mbexec.run(job(argon(5)), executor=executor, workers=2)
    second = mbexec.run(job(argon(5), driver="gradient"), executor=executor, workers=2)
    again = mbexec.run(job(argon(5)), executor=executor, workers=2)
    assert bits(first) == bits(again)
    assert second.result.return_result.shape == (5, 3)


def work_of(tables):
    from mbexec.core.engine import make_plan, read_job
    from mbexec.core.prepare import context_of

    spec, config = read_job(tables, {})
    plan = make_plan(spec, config)
    return plan, Work(context_of(plan, config), 1)


def test_a_worker_asks_for_a_context_once(monkeypatch):
    """run_chunk answers NeedContext until it has been given the blob; then it runs."""
    from mbexec.core import work as module

    monkeypatch.setattr(module._Worker, "key", "")
    monkeypatch.setattr(module._Worker, "known", OrderedDict())
    plan, work = work_of(job(argon(3)))
    tasks = list(plan)
    try:
        assert run_chunk(work.key, tasks) == NeedContext(work.key)
        first = run_chunk(work.key, tasks, work.blob)
        second = run_chunk(work.key, tasks)
    finally:
        module._Worker.limits.close()
    assert [r.index for r in first] == [r.index for r in second] == [task.index for task in tasks]
    assert [r.values for r in first] == [r.values for r in second]


def test_the_key_tells_contexts_apart():
    """Another geometry, method or number of cores is another key."""
    keys = {
        work_of(tables)[1].key
        for tables in (
            job(argon(3)),
            job(argon(4)),
            job(argon(3), program={"program": "model-potential", "method": "lj"}),
            {**job(argon(3)), "task": {"ncores": 2}},
        )
    }
    assert len(keys) == 4


def test_a_task_costs_little_to_send():
    """A task and its result are a few hundred bytes."""
    import pickle

    plan, work = work_of(job(argon(10), max_nbody=3))
    task = plan[len(plan) - 1]
    assert len(pickle.dumps(task)) < 300
    assert len(pickle.dumps(work(task))) < 500


def test_work_from_a_script_without_a_main_guard(tmp_path):
    """Loky runs a plain script's job although nothing guards its top level."""
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import mbexec\n"
        "from mbexec.core.errors import MbexecError\n"
        f"found = mbexec.run({job(argon(6))!r}, executor='loky', workers=2)\n"
        "print(found.result.return_result)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert float(done.stdout) == mbexec.run(job(argon(6)), executor="serial").result.return_result
