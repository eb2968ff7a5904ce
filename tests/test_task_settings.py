"""[task.N]: settings of the fragments of N bodies."""

import re

import attrs
import pytest

import mbexec
from mbexec import ConfigError, TaskSettings
from mbexec.core.engine import read_job
from mbexec.core.potential import ModelPotential
from mbexec.core.resources import Grant
from tests.systems import argon, job


def config_of(task, **settings):
    return read_job({**job(argon(4)), "task": task}, settings)[1]


@pytest.fixture
def seen(install):
    """A program that keeps the settings that it is given, by the number of atoms."""
    kept = {}

    class Curious(ModelPotential):
        def compute(self, input_data, config):
            kept[len(input_data.molecule.symbols)] = config
            return super().compute(input_data, config)

    install("curious-program", {"curious": Curious}, group="mbexec.programs")
    return kept


def test_what_differs_lies_over_what_is_common():
    """Each key is from its own source."""
    config = config_of({"memory": 2, "retries": 1, "3": {"memory": 6}}, **{"task.3.timeout": 60})
    assert config.task_of == {3: attrs.evolve(config.task, memory=6, timeout=60)}
    assert config.task.timeout is None
    assert (config.sources["task.3.memory"], config.sources["task.3.timeout"]) == ("the input", "argument")


def test_numbers_as_keys():
    """In Python, the N of a dict may be a number."""
    assert config_of({3: {"memory": 6}}).task_of[3].memory == 6


def test_variables(monkeypatch):
    """Like every setting."""
    monkeypatch.setenv("MBEXEC_TASK__2__RETRIES", "4")
    assert config_of({}).task_of[2].retries == 4


def test_workers_leave_room_for_the_widest(monkeypatch):
    """So many that each of them could run a fragment with the most cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("mbexec.core.resources._groups", lambda *_: iter(()))
    assert config_of({"ncores": 1}).run.workers == 8
    assert config_of({"ncores": 1, "3": {"ncores": 4}}).run.workers == 2


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"3": {"ncores": 0}}, "the input: task.3.ncores = 0 must be a whole number from 1 up."),
        ({"3": 1}, "the input: task.3 = 1 must be a table: [task.3]."),
        ({"3": {"ncore": 1}}, "the input: unknown setting task.3.ncore. Did you mean task.3.ncores? Known: task.3.n"),
        ({"03": {"ncores": 1}}, "the input: unknown setting task.03. "),
        ({"0": {"ncores": 1}}, "the input: unknown setting task.0. "),
        ({"\u0663": {"ncores": 1}}, "the input: unknown setting task.\u0663. "),
    ],
    ids=str,
)
def test_what_is_wrong(task, message):
    """Names the source, the key and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        config_of(task)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("key", ["x", "0", "03"])
def test_a_table_that_is_none_for_a_number_of_bodies(key):
    """The message says how to write one."""
    with pytest.raises(ConfigError) as caught:
        config_of({key: {"ncores": 1}})
    assert str(caught.value).endswith(
        "task.nnodes. For fragments of N bodies write [task.N], where N is a whole number from 1 up: [task.3]."
    )


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_programs_get_them(seen, executor):
    """Each fragment with the settings of its number of bodies."""
    tables = job(argon(4), max_nbody=3, program={"program": "curious", "method": "lj"})
    tables["task"] = {"memory": 2, "2": {"memory": 3, "retries": 5}}
    assert mbexec.run(tables, executor=executor).result.success
    assert {nat: (config.memory, config.retries) for nat, config in seen.items()} == {1: (2, 0), 2: (3, 5), 3: (2, 0)}
    assert all(isinstance(config, TaskSettings) for config in seen.values())


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_one_process_has_one_number_of_threads(executor):
    """The message names both settings, and who can do better."""
    with pytest.raises(ConfigError) as caught:
        mbexec.run({**job(argon(3)), "task": {"ncores": 1, "2": {"ncores": 2}}}, executor=executor)
    assert str(caught.value) == (
        f"task.2.ncores = 2, but task.ncores = 1, and the executor {executor!r} runs all fragments in one process, "
        "with one number of threads. Use one number, or set run.executor to one with processes: "
        "'dask', 'loky', 'parsl'."
    )


def test_the_same_number_again_is_no_difference(seen):
    """Said twice, meant once."""
    tables = job(argon(3), program={"program": "curious", "method": "lj"})
    assert mbexec.run({**tables, "task": {"ncores": 1, "2": {"ncores": 1}}}, executor="threads").result.success


class Far:
    """Runs fragments on other machines, or says so."""

    isolates_processes = elsewhere = True

    @mbexec.hookimpl
    def submit_level(self, level, work):
        yield from map(work, level)


@pytest.mark.usefixtures("_four_cores")
def test_this_machine_says_nothing_of_others(install):
    """Cores are not compared with those here; memory that is a share of this machine's is no setting to rely on."""
    install("mbexec-far", {"far": Far})
    tables = job(argon(3), run={"executor": "far", "workers": 1000})
    with pytest.warns(UserWarning, match="task.memory is not set") as caught:
        mbexec.run({**tables, "task": {"ncores": 8}})
    (warning,) = [str(each.message) for each in caught]
    assert warning.startswith("task.memory is not set, and 0.0")
    assert warning.endswith(
        "GiB is this machine's memory divided by run.workers = 1000, but the executor 'far' runs fragments on other "
        "machines. Set task.memory."
    )
    assert mbexec.run({**tables, "task": {"ncores": 8, "memory": 2}}).result.success


@pytest.fixture
def _four_cores(monkeypatch):
    monkeypatch.setattr("mbexec.core.prepare.granted_cores", lambda _: Grant(4, "SLURM_CPUS_ON_NODE = 4"))


GRANTED = (
    "makes {} cores, but this process is granted 4 (SLURM_CPUS_ON_NODE = 4), so threads would wait for each other. "
    "Lower"
)


@pytest.mark.usefixtures("_four_cores")
@pytest.mark.parametrize(
    ("executor", "settings", "message"),
    [
        (
            "threads",
            {"run.workers": 3, "task.ncores": 2},
            "task.ncores = 2 (argument) for 3 fragments at once (run.workers = 3, argument) "
            + GRANTED.format(6)
            + " task.n",
        ),
        (
            "serial",
            {"run.workers": 3, "task.ncores": 64},
            "task.ncores = 64 (argument) for 1 fragment at once (run.workers = 3, argument) "
            + GRANTED.format(64)
            + " task.ncores.",
        ),
        (
            "loky",
            {"run.workers": 2, "task.2.ncores": 3},
            "task.2.ncores = 3 (argument) for 2 fragments at once (run.workers = 2, argument) "
            + GRANTED.format(6)
            + " task.2.n",
        ),
    ],
    ids=["threads", "serial", "order"],
)
def test_more_cores_than_there_are(executor, settings, message):
    """The warning names both numbers, where they are from, what is granted and by whom, and what to change."""
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}"):
        assert mbexec.run(job(argon(3)), executor=executor, **settings).result.success


@pytest.mark.usefixtures("_four_cores")
@pytest.mark.parametrize(
    "settings",
    [
        {"run.workers": 2, "task.ncores": 2},
        {"run.workers": 9},
        {"run.workers": 9, "task.memory": 1.0, "task.2.memory": 2.0},
    ],
    ids=["enough", "workers alone", "another setting"],
)
def test_as_many_cores_as_there_are(settings):
    """Nobody is warned; nor is who asks for many workers, which may have their reasons to wait."""
    assert mbexec.run(job(argon(3)), executor="threads", **settings).result.success


BEYOND = "the input: [task.9] has no effect: the fragments of this job have 1, 2 bodies."


def test_a_table_for_fragments_that_there_are_not():
    """A run and a plan tell of it, and name the source."""
    tables = {**job(argon(3), max_nbody=2), "task": {"9": {"memory": 1}, "2": {"memory": 1}}}
    for call in (mbexec.plan, mbexec.run):
        with pytest.warns(UserWarning, match=f"^{re.escape(BEYOND)}$"):
            call(tables)


def test_a_table_in_a_file_for_many_jobs(tmp_path):
    """There may be larger fragments in another job."""
    (tmp_path / "mbexec.toml").write_text("[task.9]\nmemory = 1\n")
    assert len(mbexec.plan(job(argon(3)))) > 0


def test_a_timeout_that_has_no_effect():
    """Is told of, wherever it stands."""
    with pytest.warns(UserWarning, match=r"^task\.2\.timeout = 60 has no effect: the executor 'serial' cannot stop"):
        mbexec.run({**job(argon(3)), "task": {"2": {"timeout": 60}}}, executor="serial")
