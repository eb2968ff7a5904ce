"""Running one fragment: the program's own answer, and its failures in its own words."""

import os
import threading

import pytest

import mbexec
from mbexec import ConfigError, ProgramError, TaskError
from mbexec.core.engine import make_plan, read_job
from mbexec.core.limits import limited_threads
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs, run_task
from tests.programs import Flaky
from tests.systems import PYSCF, WATER_TRIMER, argon, job


def setting(tables, harness=None, **task):
    """Plan and context of a job, the program replaced by one of tests.programs."""
    spec, config = read_job({**tables, "task": task}, {})
    plan = make_plan(spec, config)
    context = context_of(plan, config)
    if harness:
        harnesses = dict.fromkeys(("model-potential", "pyscf"), f"tests.programs:{harness}")
        context = type(context)(context.cluster, context.specifications, harnesses, context.task, context.bodies)
    return plan, context


def outcomes(tables, harness=None, **task):
    plan, context = setting(tables, harness, **task)
    programs = Programs(context)
    return plan, [run_task(t, programs) for t in plan]


@pytest.fixture(autouse=True)
def _forget_toys(monkeypatch):
    """QCEngine's registry as it was."""
    from qcengine.programs import base

    monkeypatch.setattr(base, "programs", dict(base.programs))
    Flaky.calls.clear()


@pytest.mark.qc
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_program_of_qcengines_own(executor):
    """NWChem through QCEngine's harness agrees with PySCF on a counterpoise-corrected water trimer."""
    tight = {"scf__thresh": 1e-8, "scf__tol2e": 1e-12}
    nwchem = {"program": "nwchem", "method": "hf", "basis": "6-31g", "keywords": tight}
    ours = mbexec.run(job(WATER_TRIMER, bsse="cp", max_nbody=2, program=nwchem), executor=executor, workers=2)
    assert ours.result.success, ours.result.error.error_message
    theirs = mbexec.run(job(WATER_TRIMER, bsse="cp", max_nbody=2, program=PYSCF), executor=executor, workers=2)
    assert ours.result.return_result == pytest.approx(theirs.result.return_result, abs=2e-8)


def test_cluster_results_are_in_the_result():
    """The protocol cluster_results = "all" puts every AtomicResult under its label."""
    found = mbexec.run(job(argon(3), cluster_results="all"), executor="loky", workers=2)
    assert sorted(found.result.cluster_results) == sorted(task.label for task in found.plan)
    pair = found.result.cluster_results['["(auto)", [1, 2], [1, 2]]']
    assert pair.return_result == found.result.cluster_properties['["(auto)", [1, 2], [1, 2]]'].return_energy
    assert pair.molecule.symbols.tolist() == ["Ar", "Ar"]


@pytest.mark.parametrize(("harness", "words"), [("Liar", "is not a finite number"), ("Empty", "gives no gradient")])
def test_a_success_without_a_usable_result_is_a_failure(harness, words):
    """What is not a number, or not there, never gets into a sum."""
    _, results = outcomes(job(argon(2), driver="gradient"), harness)
    assert all(words in r.error.error_message and not r.values for r in results)


def test_random_errors_are_tried_again():
    """As often as task.retries says, and no more."""
    _, results = outcomes(job(argon(2), max_nbody=1), "Flaky", retries=2)
    assert [r.error for r in results] == [None, None]
    assert len(Flaky.calls) == 3 + 1
    Flaky.calls.clear()
    _, results = outcomes(job(argon(2), max_nbody=1), "Flaky", retries=1)
    assert results[0].error == TaskError("random_error", "QCEngine Random Error: the disk is on fire")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("pycsf", "No program named 'pycsf' is known. Did you mean pyscf? QCEngine knows: adcc, "),
        ("modelpotential", "No program named 'modelpotential' is known. Did you mean model-potential? QCEngine knows:"),
        ("nwchme", "No program named 'nwchme' is known. Did you mean nwchem? QCEngine knows:"),
        ("zzz", "No program named 'zzz' is known. QCEngine knows:"),
        ("molpro", "The program 'molpro' is not installed here."),
    ],
)
def test_a_program_that_is_not_there_stops_the_run_before_it_starts(program, words):
    """The sentence says which program, and what there is or how to get it."""
    with pytest.raises(ProgramError) as caught:
        mbexec.run(job(argon(2), program={"program": program, "method": "hf", "basis": "sto-3g"}))
    assert str(caught.value).startswith(words)
    assert "install" in str(caught.value)


def test_a_distributions_program_that_is_not_there():
    """Its own words on how to install it are passed on."""
    with pytest.raises(ProgramError, match=r"not installed here\. Please install it with `conda install absent`"):
        outcomes(job(argon(2)), "Absent")


def test_a_distributions_program_that_cannot_be_imported():
    """The harness is named."""
    plan, context = setting(job(argon(2)))
    context = type(context)(context.cluster, context.specifications, {"model-potential": "no_such:Thing"}, context.task)
    with pytest.raises(ProgramError, match=r"can't be imported \(No module named 'no_such'\)"):
        Programs(context)
    assert len(plan) == 3


def test_thread_limits_are_set_for_the_run_and_put_back(monkeypatch):
    """Variables that child processes read, and those that were not there before."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with limited_threads(3):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("given", [None, "0"])
def test_programs_with_open_mpi_are_alone(monkeypatch, given):
    """Otherwise each starts a daemon, which fails now and then; what the environment says already is heeded."""
    name = "OMPI_MCA_ess_singleton_isolated"
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    with limited_threads(1):
        assert os.environ[name] == (given or "1")
    assert os.environ.get(name) == given


def test_runs_at_once_share_their_thread_limits(monkeypatch):
    """The last one to end puts back what was before; one with another number of cores is refused."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second = limited_threads(2), limited_threads(2)
    first.__enter__()
    second.__enter__()
    with (
        pytest.raises(ConfigError, match=r"task.ncores = 3, but another run in this process uses 2"),
        limited_threads(3),
    ):
        pass
    first.__exit__(None, None, None)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    second.__exit__(None, None, None)
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_result_says_where_and_how_long():
    """Times are measured where the work happens, and the worker is named."""
    _, results = outcomes(job(argon(4)))
    assert all(0 < r.wall_time < 10 and 0 < r.cpu_time < 10 for r in results)
    assert {r.worker.split(":")[1:] == [str(os.getpid()), str(threading.get_native_id())] for r in results} == {True}


def test_model_chemistries_go_with_their_levels():
    """Each fragment runs with its own level's program, method and keywords, the driver being the input's."""
    program = {
        "high": {"program": "model-potential", "method": "lj-atm", "keywords": {"c9": {"Ar": 900.0}}},
        "low": {"program": "model-potential", "method": "lj"},
    }
    tables = job(argon(4), driver="gradient", program=program, levels={"2": "low", "3": "high"}, cluster_results="all")
    found = mbexec.run(tables, executor="serial")
    for label, result in found.result.cluster_results.items():
        wanted = {"high": ("lj-atm", {"c9": {"Ar": 900.0}}), "low": ("lj", {})}[label.split('"')[1]]
        specification = result.input_data.specification
        assert (specification.model.method, specification.keywords) == wanted
        assert specification.driver == "gradient"
