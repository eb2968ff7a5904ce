"""Programs that must not run twice at once in one process."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from qcelemental.models.v2 import AtomicSpecification
from qcengine import get_program

import mbexec
from mbexec import ConfigError
from mbexec.core import safety
from mbexec.core.potential import ModelPotential
from tests.systems import argon, job


class Unsafe(ModelPotential):
    """The model potential, which says that it is not safe in threads."""

    thread_safe = False


@pytest.fixture
def unsafe(install):
    """A job on a program of that name, which is not safe in threads."""

    def of(name, **extras):
        install("unsafe-program", {name: Unsafe}, group="mbexec.programs")
        spec = mbexec.plan(job(argon(3), program={"program": name, "method": "lj"})).spec.model_dump()
        spec["specification"]["specification"]["(auto)"]["extras"] = extras
        return spec

    return of


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_refused_where_fragments_share_a_process(unsafe, executor):
    """The message names the program, and what can be done."""
    with pytest.raises(ConfigError) as caught:
        mbexec.run(unsafe("fragile"), executor=executor, workers=2)
    assert str(caught.value) == (
        f"The program 'fragile' is not safe in threads, but the executor '{executor}' runs 2 fragments at once in one "
        "process. Set run.workers = 1, or run.executor to one with processes: 'dask', 'loky', 'parsl'."
    )


def test_without_an_executor_that_has_processes(unsafe, monkeypatch):
    """The message says how to get one."""
    others = [plugin for plugin in safety.installed_plugins() if plugin.name not in ("dask", "loky", "parsl")]
    monkeypatch.setattr(safety, "installed_plugins", lambda: others)
    with pytest.raises(ConfigError, match=r"none is installed, try pip install mbexec-loky\.$"):
        mbexec.run(unsafe("fragile"), executor="threads", workers=2)


def test_executors_that_cannot_be_imported_are_not_named(unsafe, install):
    """A broken plugin is no way out, and does not hide those that are."""
    install("broken", {"broken": "Missing"}, source="import nothing_of_that_name")
    with pytest.raises(ConfigError, match=r"processes: 'dask', 'loky', 'parsl'\.$"):
        mbexec.run(unsafe("fragile"), executor="threads", workers=2)


@pytest.mark.parametrize("settings", [{"executor": "serial"}, {"executor": "threads", "workers": 1}], ids=str)
def test_one_at_a_time_is_safe(unsafe, settings):
    """Nothing to refuse."""
    assert mbexec.run(unsafe("fragile"), **settings).result.success


@pytest.mark.parametrize("program", ["nwchem", "cfour"])
def test_programs_in_processes_of_their_own(unsafe, program):
    """What QCEngine declares unsafe is safe where each calculation is a child process."""
    assert mbexec.run(unsafe(program), executor="threads", workers=2).result.success


@pytest.mark.parametrize(("extras", "refused"), [({}, False), ({"psiapi": True}, True)])
def test_psi4_inside_python(extras, refused):
    """QCEngine runs psi4 in a child process, unless asked to use its Python interface."""
    specification = AtomicSpecification(program="psi4", driver="energy", model={"method": "hf"}, extras=extras)
    context = SimpleNamespace(specifications={"(auto)": specification})
    programs = SimpleNamespace(context=context, harness=lambda name: get_program(name, check=False))
    with pytest.raises(ConfigError, match="'psi4' is not safe in threads") if refused else nullcontext():
        safety.refuse_unsafe(programs, "threads", 2)
