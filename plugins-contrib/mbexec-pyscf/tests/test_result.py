"""What a result says besides its number."""

from __future__ import annotations

import importlib.metadata
import pickle

import numpy as np
import pyscf
import pytest
import qcengine
from mbexec_pyscf import PySCFHarness
from pyscf import gto, scf
from qcengine.programs import base

pytestmark = pytest.mark.qc


@pytest.fixture
def _registered(monkeypatch):
    """Registered for this test, whether or not another has registered it before."""
    monkeypatch.setattr(base, "programs", {name: h for name, h in base.programs.items() if name != "pyscf"})
    qcengine.register_program(PySCFHarness())


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("method", ["hf", "mp2"])
def test_through_qcengine(fragment, atomic_input, compute, method):
    """Registered, the program gives through QCEngine what it gives called directly."""
    task = atomic_input(fragment((1,), (1, 2)), method, driver="gradient")
    result = qcengine.compute(task, "pyscf", raise_error=True, task_config={"ncores": 1, "memory": 2})
    assert result.success
    direct = compute(fragment((1,), (1, 2)), method, driver="gradient")
    np.testing.assert_equal(result.return_result, direct.return_result)
    np.testing.assert_equal(result.properties.model_dump(), direct.properties.model_dump())


@pytest.mark.usefixtures("_registered")
def test_failure_through_qcengine(fragment, atomic_input):
    """Through QCEngine a refusal becomes a FailedOperation of its kind."""
    task = atomic_input(fragment(), keywords={"xyzzy": 1})
    result = qcengine.compute(task, "pyscf", task_config={"ncores": 1, "memory": 2})
    assert not result.success
    assert result.error.error_type == "input_error"
    assert "PySCF takes no keyword 'xyzzy'" in result.error.error_message


@pytest.mark.parametrize("method", ["hf", "b3lyp", "mp2"])
def test_no_checkpoint_file(fragment, compute, method, monkeypatch):
    """No file is made that a killed run would leave behind; who uses PySCF beside it has the files as before."""
    with monkeypatch.context() as patch:
        patch.setattr(pyscf.lib, "NamedTemporaryFile", None)
        assert compute(fragment(), method, driver="gradient").success
        with pytest.raises(TypeError):
            scf.RHF(gto.M(verbose=0))
    assert not scf.hf.MUTE_CHKFILE


def test_entry_point():
    """The distribution announces the program by its name."""
    (entry,) = importlib.metadata.entry_points(group="mbexec.programs", name="pyscf")
    assert entry.load() is PySCFHarness


def test_face():
    """The harness is found, tells PySCF's version, says that threads may share it, and pickles."""
    program = PySCFHarness()
    assert program.found(raise_error=True)
    assert program.get_version() == pyscf.__version__
    assert (program.name, program.thread_safe, program.thread_parallel) == ("pyscf", True, True)
    assert (program.managed_memory, program.scratch, program.node_parallel) == (True, False, False)
    assert pickle.loads(pickle.dumps(program)) == program


@pytest.mark.parametrize(
    ("method", "fields", "routine"),
    [
        ("scf", {}, "pyscf.scf.RHF"),
        ("HF", {"molecular_charge": 1, "molecular_multiplicity": 2}, "pyscf.scf.UHF"),
        ("svwn", {}, "pyscf.dft.RKS"),
        ("mp2", {}, "pyscf.mp.MP2"),
        ("ccsd", {}, "pyscf.cc.CCSD"),
        ("ccsd(t)", {}, "pyscf.cc.CCSD(T)"),
    ],
)
def test_provenance(fragment, compute, method, fields, routine):
    """A result names the program, its version and the routine: rhf for singlets, uhf for open shells."""
    result = compute(fragment(**fields), method, keywords={"grids_level": 0})
    provenance = result.provenance
    assert (provenance.creator, provenance.version, provenance.routine) == ("PySCF", pyscf.__version__, routine)
    assert result.extras == {"mbexec_pyscf_version": importlib.metadata.version("mbexec-pyscf")}


@pytest.mark.parametrize("method", ["hf", "uhf", "rohf", "svwn", "b3lyp"])
def test_scf_properties(fragment, compute, method):
    """The parts of an SCF energy add up to it, and the counts leave out the electrons of ghosts."""
    known = compute(fragment((1,), (1, 2)), method, keywords={"grids_level": 0}).properties
    parts = known.scf_one_electron_energy + known.scf_two_electron_energy + (known.scf_xc_energy or 0.0)
    assert known.nuclear_repulsion_energy + parts == pytest.approx(known.scf_total_energy, abs=1e-10, rel=0)
    assert known.return_energy == known.scf_total_energy
    assert (known.calcinfo_nbasis, known.calcinfo_nmo, known.calcinfo_natom) == (14, 14, 6)
    assert (known.calcinfo_nalpha, known.calcinfo_nbeta) == (5, 5)
    assert known.scf_dipole_moment.shape == (3,)
    assert 3 < known.scf_iterations < 30


def test_correlation_properties(fragment, compute):
    """CCSD(T) reports itself and the methods it passes through; MP2 in it is MP2 by itself."""
    known = compute(fragment(), "ccsd(t)").properties
    alone = compute(fragment(), "mp2").properties
    assert known.return_energy == known.ccsd_prt_pr_total_energy
    assert known.ccsd_prt_pr_correlation_energy < known.ccsd_correlation_energy < 0
    assert known.ccsd_total_energy == pytest.approx(known.scf_total_energy + known.ccsd_correlation_energy, abs=1e-10)
    assert known.mp2_total_energy == pytest.approx(alone.return_energy, abs=1e-10)
    spins = alone.mp2_same_spin_correlation_energy + alone.mp2_opposite_spin_correlation_energy
    assert alone.mp2_correlation_energy == alone.mp2_doubles_energy == pytest.approx(spins, abs=1e-12)
    assert known.ccsd_iterations > 3


@pytest.mark.parametrize("driver", ["gradient", "hessian"])
def test_lower_derivatives(fragment, compute, driver):
    """A derivative comes with the energy and every lower derivative."""
    known = compute(fragment(), driver=driver).properties
    energy = compute(fragment())
    assert known.return_energy == energy.return_result
    assert np.array_equal(known.scf_total_gradient, known.return_gradient)
    assert (known.return_hessian is None) == (driver == "gradient")
    assert energy.properties.return_gradient is None


def test_ghosts(fragment, compute):
    """A ghost lowers the energy by its basis, feels a force, and shares in a gradient that sums to zero."""
    alone = compute(fragment())
    ghosted = compute(fragment((1,), (1, 2)), driver="gradient")
    assert ghosted.properties.return_energy < alone.return_result
    assert ghosted.properties.nuclear_repulsion_energy == pytest.approx(alone.properties.nuclear_repulsion_energy)
    assert ghosted.return_result.shape == (6, 3)
    assert np.abs(ghosted.return_result[3:]).max() > 1e-6
    assert np.abs(ghosted.return_result.sum(axis=0)).max() < 1e-7


@pytest.mark.parametrize(
    ("fields", "basis", "keywords", "energy"),
    [
        ({"symbols": ["He"]}, "sto-3g", {}, -2.807784),
        ({"symbols": ["H"], "molecular_multiplicity": 2}, "cc-pvdz", {}, -0.499278),
        ({"symbols": ["B"], "molecular_charge": 3}, "cc-pvdz", {"freeze_core": True}, -21.985427),
        ({"symbols": ["H"], "molecular_charge": 1}, "cc-pvdz", {}, 0.0),
        ({"symbols": ["H"], "real": [False]}, "cc-pvdz", {}, 0.0),
    ],
    ids=["no virtual orbitals", "one electron", "frozen away", "no electrons", "only ghosts"],
)
@pytest.mark.parametrize("method", ["hf", "mp2", "ccsd", "ccsd(t)"])
def test_nothing_to_correlate(fragment, compute, fields, basis, keywords, energy, method):
    """Where no two electrons can correlate, every method gives Hartree-Fock's energy and gradient."""
    molecule = fragment(**{"geometry": [0, 0, 0], "real": [True]} | fields)
    driver = "energy" if (method, fields.get("molecular_multiplicity")) == ("ccsd(t)", 2) else "gradient"
    result = compute(molecule, method, basis, driver, keywords)
    assert result.properties.return_energy == pytest.approx(energy, abs=1e-6)
    assert driver == "energy" or np.abs(result.return_result).max() < 1e-12


def test_output(fragment, compute, capfd):
    """What PySCF prints is kept in the result where it was asked for, and reaches no screen."""
    assert "converged SCF energy" in compute(fragment(), keywords={"verbose": 4}).stdout
    assert compute(fragment(), keywords={"verbose": 4}, protocols={"stdout": False}).stdout is None
    assert compute(fragment()).stdout is None
    assert capfd.readouterr() == ("", "")
