"""[task.N]: settings of the fragments of N bodies."""

import attrs
import pytest

import mbexec
from mbexec import ConfigError, TaskSettings
from mbexec.core.engine import read_job
from mbexec.core.potential import ModelPotential
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
        "with one number of threads. Use one number, or set run.executor to one with processes: 'loky'."
    )


def test_the_same_number_again_is_no_difference(seen):
    """Said twice, meant once."""
    tables = job(argon(3), program={"program": "curious", "method": "lj"})
    assert mbexec.run({**tables, "task": {"ncores": 1, "2": {"ncores": 1}}}, executor="threads").result.success


def test_a_timeout_that_has_no_effect():
    """Is told of, wherever it stands."""
    with pytest.warns(UserWarning, match=r"^task\.2\.timeout = 60 has no effect: the executor 'serial' cannot stop"):
        mbexec.run({**job(argon(3)), "task": {"2": {"timeout": 60}}}, executor="serial")
