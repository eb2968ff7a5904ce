"""Each program here through `run_task` and through `qcengine.compute`: equal in everything but timings."""

import os
import sys

import attrs
import pytest
import qcengine
from qcelemental.models.v2 import AtomicResult, FailedOperation
from qcengine.programs import base

from mbexec.core.engine import make_plan, read_job
from mbexec.core.harness import find_harness
from mbexec.core.limits import limited_threads
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs, run_task
from mbexec.core.types import TaskError
from tests.oracles import assert_same, comparable, request_of
from tests.programs import Toy
from tests.systems import argon, job

DIMER = """
O  -1.1713  -1.1571  -0.0947
H  -0.2329  -1.3694  -0.0338
H  -1.5661  -1.6586   0.6252
--
O   1.5897  -0.4391   0.0986
H   1.3032   0.4845   0.0594
H   2.2193  -0.5396  -0.6230
"""

# What runs here: [program], the cluster, and whether the program may be shown ghosts.
TABLES = {
    "model-potential": ({"method": "lj-atm"}, argon(2), True),
    "pyscf": ({"method": "hf", "basis": "sto-3g"}, DIMER, True),
    "tblite": ({"method": "gfn2-xtb"}, DIMER, True),
    "xtb": ({"method": "gfn2-xtb"}, DIMER, False),
    "mopac": ({"method": "pm7"}, DIMER, False),
    "nwchem": ({"method": "hf", "basis": "sto-3g"}, DIMER, True),
    "psi4": ({"method": "hf", "basis": "sto-3g"}, DIMER, True),
}
NO_WHEEL = pytest.mark.skipif(sys.version_info >= (3, 12), reason="there is no xtb for this Python")
MARKS = {name: [pytest.mark.qc] for name in TABLES} | {"model-potential": [], "xtb": [pytest.mark.qc, NO_WHEEL]}
PROGRAMS = [pytest.param(name, id=name, marks=MARKS[name]) for name in TABLES]


@pytest.fixture(autouse=True)
def _programs(monkeypatch):
    """QCEngine's registry with the harnesses that mbexec would use; put back after the test."""
    monkeypatch.setattr(base, "programs", dict(base.programs) | {"model-potential": Toy()})
    with limited_threads(1):
        yield


def setting(program, driver="energy", bsse="cp", **changed):
    """Plan and context of the program's job; whole results are kept."""
    table, geometry, _ = TABLES[program]
    table = {"program": program, **table, **changed}
    tables = job(geometry, bsse=bsse, driver=driver, program=table, cluster_results="all")
    spec, config = read_job({**tables, "task": {"ncores": 1, "memory": 1.0}}, {})
    plan = make_plan(spec, config)
    context = context_of(plan, config)
    if program == "model-potential":
        context = attrs.evolve(context, harnesses={program: "tests.programs:Toy"})
    if program in context.harnesses:
        base.programs[program] = find_harness(program, context.harnesses[program])
    return plan, context


def compared(plan, task, programs):
    """One fragment both ways: what each gives, and our TaskResult."""
    request = request_of(plan, task)
    theirs = qcengine.compute(request, request.specification.program, task_config={"ncores": 1, "memory": 1.0})
    result = run_task(task, programs)
    kind = AtomicResult if theirs.success else FailedOperation
    return kind.model_validate_json(result.body), theirs, result


@pytest.mark.parametrize("driver", ["energy", "gradient"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_success(program, driver):
    """A monomer with ghosts, where the program may see them, and a dimer: result, properties, output, provenance."""
    ghosts = TABLES[program][2]
    plan, context = setting(program, driver, "cp" if ghosts else "nocp")
    programs = Programs(context)
    for task in (next(t for t in plan if not ghosts or t.frag != t.bas), plan[len(plan) - 1]):
        ours, theirs, result = compared(plan, task, programs)
        assert theirs.success, theirs.error.error_message
        assert_same(comparable(ours), comparable(theirs))
        assert result.values["energy"] == theirs.properties.return_energy
        assert ours.provenance.wall_time >= 0


def test_hessian():
    """A Hessian, on the model potential."""
    plan, context = setting("model-potential", "hessian")
    ours, theirs, _ = compared(plan, plan[2], Programs(context))
    assert_same(comparable(ours), comparable(theirs))


REFUSED = [
    ("model-potential", {"method": "xyzzy"}, "input_error", "has no method 'xyzzy'"),
    ("model-potential", {"basis": "xyzzy"}, "input_error", "no basis set, but got 'xyzzy'"),
    ("pyscf", {"method": "xyzzy"}, "input_error", "no method 'xyzzy'"),
    ("pyscf", {"basis": "xyzzy"}, "input_error", "no basis 'xyzzy'"),
    ("pyscf", {"keywords": {"max_cycle": 2}}, "convergence_error", "did not converge in 2 iterations"),
    ("tblite", {"method": "xyzzy"}, "input_error", "no method 'xyzzy'"),
    ("tblite", {"basis": "xyzzy"}, "input_error", "model.basis is 'xyzzy'"),
    ("tblite", {"keywords": {"max_iter": 2}}, "convergence_error", "did not converge in 2 iterations"),
    ("xtb", {"method": "xyzzy"}, "input_error", "Invalid method xyzzy"),
    ("xtb", {"keywords": {"max_iterations": 2}}, "runtime_error", "did not converge"),
    ("mopac", {"method": "xyzzy"}, "input_error", "does not have method: XYZZY"),
    ("mopac", {"keywords": {"xyzzy": 1}}, "input_error", "Unknown keywords given to MOPAC: {'XYZZY'}"),
    ("nwchem", {"method": "xyzzy"}, "input_error", "Method not recognized: xyzzy"),
    ("nwchem", {"basis": "xyzzy"}, "unknown_error", "failed opening basis file"),
    ("nwchem", {"keywords": {"scf__maxiter": 1, "scf__thresh": 1e-9}}, "known_error", "failed to converge"),
    ("psi4", {"method": "xyzzy"}, "input_error", '"xyzzy" is not available'),
    ("psi4", {"basis": "xyzzy"}, "input_error", "Unable to find a basis set"),
    ("psi4", {"keywords": {"maxiter": 2}}, "convergence_error", "Could not converge SCF iterations in 2"),
]


@pytest.mark.parametrize(
    ("program", "changed", "error_type", "words"),
    [pytest.param(*case, marks=MARKS[case[0]], id=f"{case[0]}-{case[2]}-{i}") for i, case in enumerate(REFUSED)],
)
def test_refusals_and_failures(program, changed, error_type, words):
    """Unknown methods, basis sets and keywords, and iterations that end too early: a FailedOperation field by field."""
    plan, context = setting(program, bsse="nocp", **changed)
    ours, theirs, result = compared(plan, plan[0], Programs(context))
    assert not theirs.success
    assert_same(comparable(ours), comparable(theirs))
    assert (result.error.error_type, result.values) == (error_type, {})
    assert words in result.error.error_message
    assert ours.error.error_message == result.error.error_message


def crashing(folder, name):
    """Put a command first on the path that says so and dies."""
    command = folder / "bin" / name
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'out of stack' >&2\nkill -SEGV $$\n")
    command.chmod(0o755)
    return command


@pytest.mark.qc
@pytest.mark.parametrize("program", ["mopac", "nwchem", "psi4"])
def test_crashes(program, tmp_path, monkeypatch):
    """A program that dies of a signal when it is called: the same FailedOperation."""
    plan, context = setting(program, bsse="nocp")
    programs = Programs(context)
    command = crashing(tmp_path, program)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    if program == "psi4":
        from mbexec_psi4 import executable, harness

        monkeypatch.setattr(executable, "version_of", lambda _: "1.3.2")
        monkeypatch.setattr(harness, "version_of", lambda _: "1.3.2")
    ours, theirs, result = compared(plan, plan[0], programs)
    assert not theirs.success
    assert_same(comparable(ours), comparable(theirs))
    assert result.error.error_type == "unknown_error"


def test_a_bug_is_an_unknown_error_with_its_traceback():
    """What a harness raises unawares, as QCEngine tells it."""
    plan, context = setting("model-potential")
    context = attrs.evolve(context, harnesses={"model-potential": "tests.programs:Broken"})
    programs = Programs(context)
    base.programs["model-potential"] = programs._harnesses["model-potential"]
    ours, theirs, result = compared(plan, plan[0], programs)
    assert_same(comparable(ours), comparable(theirs))
    assert result.error.error_message.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("harness", "message"),
    [("Returns", "QCEngine Unknown Error: no license"), ("Silent", "toy ended with an error and gave no result.")],
)
def test_harnesses_that_break_their_word(harness, message):
    """An exception that is returned, or nothing at all, is a failed fragment in a sentence; QCEngine itself breaks."""
    plan, context = setting("model-potential")
    context = attrs.evolve(context, harnesses={"model-potential": f"tests.programs:{harness}"})
    programs = Programs(context)
    base.programs["model-potential"] = programs._harnesses["model-potential"]
    with pytest.raises(AttributeError):
        qcengine.compute(request_of(plan, plan[0]), "model-potential")
    result = run_task(plan[0], programs)
    assert result.error == TaskError("unknown_error", message)
    assert FailedOperation.model_validate_json(result.body).error.error_message == message


def test_random_errors_count_their_retries():
    """A result that took two more tries says so in its provenance, here and there."""
    from tests.programs import Flaky

    plan, context = setting("model-potential", bsse="nocp")
    context = attrs.evolve(
        context, harnesses={"model-potential": "tests.programs:Flaky"}, task=attrs.evolve(context.task, retries=2)
    )
    programs = Programs(context)
    base.programs["model-potential"] = programs._harnesses["model-potential"]
    Flaky.calls.clear()
    ours = AtomicResult.model_validate_json(run_task(plan[0], programs).body)
    Flaky.calls.clear()
    theirs = qcengine.compute(request_of(plan, plan[0]), "model-potential", task_config={"ncores": 1, "retries": 2})
    assert ours.provenance.model_extra["retries"] == 2
    assert_same(comparable(ours), comparable(theirs))


def test_a_harness_that_writes_into_its_input_spoils_no_other_fragment():
    """Each calculation has keywords of its own, as some of QCEngine's harnesses change them."""
    plan, context = setting("model-potential", keywords={"epsilon": {"Ar": 5e-4}})
    context = attrs.evolve(context, harnesses={"model-potential": "tests.programs:Scribbler"})
    programs = Programs(context)
    alone = run_task(plan[0], Programs(context)).values["energy"]
    run_task(plan[2], programs)
    assert run_task(plan[0], programs).values["energy"] == alone
    assert context.specifications["(auto)"].keywords == {"epsilon": {"Ar": 5e-4}}
