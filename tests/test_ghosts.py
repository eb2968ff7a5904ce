"""Ghost atoms: honoured, stripped or refused, never taken for atoms."""

import os
import sys

import numpy as np
import pytest
from loky import get_reusable_executor
from qcmanybody.v2 import ManyBodyComputer

import mbexec
from mbexec import InputError, ProgramError
from tests.programs import AtomGhosts, DropsGhosts, HonoursGhosts, Misnamed, NoisyAtomGhosts, NoisyGhosts, Toy
from tests.systems import WATER_TRIMER, argon, job

PAIRS = "\n--\n".join(f"Ar {9 * i}.0 0.3 0.0\nHe {9 * i}.0 0.3 2.9" for i in range(3))


@pytest.fixture
def program(monkeypatch):
    """Registers a harness with QCEngine as a program that nobody knows anything of; gives [program]."""
    from qcengine.programs import base

    registry = dict(base.programs)
    monkeypatch.setattr(base, "programs", registry)

    def register(harness, basis=None):
        registry["unheard-of"] = harness()
        table = {"program": "unheard-of", "method": "lj"}
        return table if basis is None else {**table, "basis": basis}

    return register


def run(table, geometry=PAIRS, bsse="cp", driver="energy"):
    return mbexec.run(job(geometry, bsse=bsse, driver=driver, program=table), executor="serial")


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
@pytest.mark.parametrize("bsse", ["cp", "vmfc"])
def test_without_a_basis_ghosts_taken_for_atoms_are_stripped(program, bsse, driver):
    """A program that would compute them as atoms never sees them: cp and vmfc equal nocp."""
    table = program(AtomGhosts)
    corrected = run(table, bsse=bsse, driver=driver).result.return_result
    plain = run(table, bsse="nocp", driver=driver).result.return_result
    np.testing.assert_allclose(corrected, plain, rtol=0, atol=1e-15)


def test_without_a_basis_dropped_ghosts_are_stripped(program):
    """Dropping them is the same as not being given them."""
    assert run(program(DropsGhosts)).result.return_result == pytest.approx(
        run(program(DropsGhosts), bsse="nocp").result.return_result, abs=1e-15
    )


def test_with_a_basis_ghosts_that_matter_are_honoured(program):
    """They reach the program, whose energy they change."""
    table = program(HonoursGhosts, basis="some")
    assert abs(run(table).result.return_result - run(table, bsse="nocp").result.return_result) > 1e-9


@pytest.mark.parametrize(
    ("harness", "what"), [(AtomGhosts, "takes ghost atoms for real ones"), (DropsGhosts, "drops ghost atoms")]
)
def test_with_a_basis_anything_else_is_refused(program, harness, what):
    """One sentence says what the program does and what to use instead."""
    with pytest.raises(InputError, match=f"^'unheard-of' {what}, so cp and vmfc can't be had from it; use nocp.$"):
        run(program(harness, basis="some"))


def test_a_program_that_fails_when_asked_is_refused_in_its_own_words(program):
    """No element 'U': the probe's failure is told."""
    with pytest.raises(InputError, match=r"failed when asked what it makes of them; use nocp\. It said: .*'U'"):
        run(program(Toy), geometry="U 0 0 0\n--\nU 0 0 4\n--\nAr 0 0 8")


def test_nothing_is_asked_where_there_are_no_ghosts(program):
    """Nocp runs the fragments and nothing else."""
    AtomGhosts.calls.clear()
    found = run(program(AtomGhosts), bsse="nocp")
    assert len(AtomGhosts.calls) == len(found.plan)


def test_fragments_far_apart_are_brought_together_to_ask(program):
    """A hundred angstrom apart no basis is felt; the program is asked about a close dimer instead."""
    far = "Ar 0 0 0\n--\nAr 0 0 100.0"
    assert run(program(HonoursGhosts, basis="some"), geometry=far).result.success


def test_noise_is_not_taken_for_a_difference(program):
    """A program that takes ghosts for atoms is found out though no two of its calls agree."""
    with pytest.raises(InputError, match=r"'unheard-of' gives energies that differ by \de-0\d E_h from call to call"):
        run(program(NoisyAtomGhosts, basis="some"))


def test_a_little_noise_does_not_hide_what_ghosts_do(program):
    """Honoured ghosts change the energy by far more than this."""
    found = run(program(NoisyGhosts, basis="some"))
    assert found.result.success


def test_without_a_basis_noise_does_no_harm(program):
    """The ghosts are stripped as ever."""
    found = run(program(NoisyAtomGhosts))
    assert found.result.return_result == pytest.approx(run(program(Toy), bsse="nocp").result.return_result, abs=1e-7)


def test_a_method_that_brings_its_basis_may_honour_ghosts(program):
    """No basis is given, and yet ghosts matter: they are honoured."""
    table = program(HonoursGhosts)
    assert abs(run(table).result.return_result - run(table, bsse="nocp").result.return_result) > 1e-9


def test_a_harness_must_say_something_that_is_known(program):
    """Any other word for what it does with ghosts is refused."""
    with pytest.raises(ProgramError, match="has ghosts = 'ignored'; it must be 'honoured' or 'stripped'"):
        run(program(Misnamed))


CLUSTERED = """
    import os
    from mbexec.core.potential import ModelPotential

    class Unheard(ModelPotential):
        name = "unheard"
        ghosts = None

        def compute(self, request, config):
            with open(os.environ["CALLS"], "a") as file:
                file.write(f"{os.getpid()} {len(request.molecule.symbols)}\\n")
            if os.environ["CALLS"].endswith("crash"):
                raise RuntimeError("a crash")
            return super().compute(request, config)
"""


@pytest.mark.parametrize("executor", ["serial", "threads", "loky"])
def test_a_program_is_asked_once_per_run(install, monkeypatch, tmp_path, executor):
    """By the parent, however many workers there are: six calls besides the fragments."""
    install("mbexec-unheard", {"unheard": "Unheard"}, source=CLUSTERED, group="mbexec.programs")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site-packages" / "mbexec-unheard"), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(tmp_path / f"calls-{executor}"))
    if executor == "loky":  # workers that were there before don't see this test's variables
        get_reusable_executor().shutdown(wait=True)
    table = {"program": "unheard", "method": "lj"}
    found = mbexec.run(job(PAIRS, bsse="cp", program=table), executor=executor, workers=2)
    if executor == "loky":
        get_reusable_executor().shutdown(wait=True)
    assert found.result.success, found.result.error.error_message
    lines = (tmp_path / f"calls-{executor}").read_text().splitlines()
    assert len(lines) == len(found.plan) + 6
    assert {line.split()[0] for line in lines[:6]} == {str(os.getpid())}
    assert (executor == "loky") == (str(os.getpid()) not in {line.split()[0] for line in lines[6:]})


def test_a_program_that_crashes_when_asked_stops_the_run(install, monkeypatch, tmp_path):
    """At its first call, in a sentence with its own last words."""
    install("mbexec-unheard", {"unheard": "Unheard"}, source=CLUSTERED, group="mbexec.programs")
    monkeypatch.setenv("CALLS", str(tmp_path / "crash"))
    with pytest.raises(InputError, match=r"'unheard' failed when asked .* It said: RuntimeError: a crash$"):
        mbexec.run(job(PAIRS, bsse="cp", program={"program": "unheard", "method": "lj"}), executor="threads")
    assert len((tmp_path / "crash").read_text().splitlines()) == 1


PM7 = pytest.param({"program": "MOPAC", "method": "pm7"}, id="mopac")
GFN2 = pytest.param(
    {"program": "xtb", "method": "gfn2-xtb"},
    id="xtb",
    marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="there is no xtb for this Python"),
)


@pytest.mark.qc
@pytest.mark.parametrize("driver", ["energy", "gradient"])
@pytest.mark.parametrize("bsse", ["cp", "vmfc"])
@pytest.mark.parametrize("table", [PM7, GFN2])
def test_xtb_and_mopac_never_see_a_ghost(table, bsse, driver):
    """Cp and vmfc equal nocp but for the rounding of sums."""
    corrected, plain = (
        mbexec.run(
            job(WATER_TRIMER, bsse=b, driver=driver, program=table, return_total_data=False), executor="serial"
        ).result.return_result
        for b in (bsse, "nocp")
    )
    np.testing.assert_allclose(corrected, plain, rtol=0, atol=1e-12)
    assert np.abs(plain).max() < 0.1


TOTALS = {"xtb": (-15.23, 15.25), "MOPAC": (-0.297, 0.318)}  # E_h: right, and with ghosts for atoms


@pytest.mark.qc
@pytest.mark.parametrize("table", [PM7, GFN2])
def test_qcmanybody_takes_their_ghosts_for_atoms(table, monkeypatch):
    """What mbexec guards against: with cp, QCManyBody reports success and a total energy of +15.2 E_h with xtb."""
    monkeypatch.setenv("QCENGINE_NCORES", "1")
    tables = job(WATER_TRIMER, bsse="cp", program=table, return_total_data=True)
    theirs = ManyBodyComputer.from_manybodyinput(mbexec.plan(tables).spec)
    ours = mbexec.run(tables, executor="serial").result
    assert theirs.success
    right, wrong = TOTALS[table["program"]]
    assert ours.return_result == pytest.approx(right, abs=0.01)
    assert theirs.return_result == pytest.approx(wrong, abs=0.01)


def test_argon_on_the_model_potential_is_not_asked():
    """The built-in program says itself that it honours ghosts; cp equals nocp."""
    table = {"program": "model-potential", "method": "lj-atm"}
    corrected = run(table, argon(4)).result.return_result
    assert corrected == pytest.approx(run(table, argon(4), "nocp").result.return_result, abs=1e-16)
