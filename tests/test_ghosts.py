"""Ghost atoms: honoured, stripped or refused, never taken for atoms."""

import numpy as np
import pytest
import qcengine

import mbexec
from mbexec import InputError
from tests.programs import AtomGhosts, DropsGhosts, HonoursGhosts, Toy
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


@pytest.mark.qc
@pytest.mark.parametrize(
    "table", [{"program": "mopac", "method": "pm6"}, {"program": "MOPAC", "method": "pm7"}], ids=["pm6", "pm7"]
)
def test_mopac_never_sees_a_ghost(table):
    """Cp equals nocp to the noise of MOPAC's printed digits; through QCEngine alone it would be nonsense."""
    corrected, plain = (run(table, WATER_TRIMER, bsse).result.return_result for bsse in ("cp", "nocp"))
    assert corrected == pytest.approx(plain, abs=1e-12)
    assert abs(plain) < 0.1


@pytest.mark.qc
def test_qcengine_alone_takes_mopacs_ghosts_for_atoms():
    """What mbexec guards against is real: a ghosted dimer has the energy of the dimer, and success."""
    spec = mbexec.plan(job(WATER_TRIMER)).spec
    answers = []
    for real, ghost in (([0, 1], []), ([0], [1])):
        molecule = spec.molecule.get_fragment(real, ghost, orient=False, group_fragments=False)
        request = {"molecule": molecule, "specification": {"driver": "energy", "model": {"method": "pm6"}}}
        answers.append(qcengine.compute(request, "mopac", raise_error=True, return_version=2).return_result)
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


def test_argon_on_the_model_potential_is_not_asked():
    """The built-in program says itself that it honours ghosts; cp equals nocp."""
    table = {"program": "model-potential", "method": "lj-atm"}
    corrected = run(table, argon(4)).result.return_result
    assert corrected == pytest.approx(run(table, argon(4), "nocp").result.return_result, abs=1e-16)
