"""Psi4 and PySCF agree where they compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from mbexec_pyscf import PySCFHarness

pytestmark = [pytest.mark.qc, pytest.mark.usefixtures("psi4")]

CATION = {"molecular_charge": 1, "molecular_multiplicity": 2}
EXACT = {
    "scf_type": "pk",
    "mp2_type": "conv",
    "e_convergence": 1e-11,
    "d_convergence": 1e-10,
    "r_convergence": 1e-9,
}
PYSCF = {"conv_tol": 1e-12, "conv_tol_grad": 1e-8}


@pytest.fixture
def both(compute, atomic_input, config):
    """Results of psi4 and of PySCF."""

    def run(molecule, method, basis, driver="energy", keywords=None, other=None):
        ours = compute(molecule, method, basis, driver, EXACT | (keywords or {}))
        task = atomic_input(molecule, method, basis, driver, PYSCF | (other or {}))
        return ours, PySCFHarness().compute(task, config)

    return run


def assert_same_energies(ours, theirs):
    """Compare what both programs give of the energy, in parts and in sum."""
    found, expected = (result.properties.model_dump(exclude_none=True) for result in (ours, theirs))
    names = {name for name in found.keys() & expected.keys() if name.endswith("_energy")}
    assert {"return_energy", "scf_total_energy", "nuclear_repulsion_energy"} <= names
    for name in names:
        within = 1e-9 if name in ("return_energy", "scf_total_energy") else 1e-7
        assert found[name] == pytest.approx(expected[name], abs=within, rel=0), name
    return names


@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize("fields", [{}, CATION], ids=["rhf", "uhf"])
@pytest.mark.parametrize("method", ["hf", "mp2"])
def test_energies(fragment, both, method, fields, bas):
    """Energies in 6-31G agree to 1e-9 E_h, for open shells and among ghosts too, and so do their parts."""
    names = assert_same_energies(*both(fragment((1,), bas, **fields), method, "6-31g"))
    assert ("mp2_same_spin_correlation_energy" in names) == (method == "mp2")


def test_coupled_cluster(fragment, both):
    """CCSD(T) agrees to 1e-9 E_h, and so do the methods passed through."""
    names = assert_same_energies(*both(fragment((1,), (1, 2)), "ccsd(t)", "sto-3g"))
    assert {"mp2_total_energy", "ccsd_total_energy", "ccsd_prt_pr_correlation_energy"} <= names


@pytest.mark.parametrize("method", ["hf", "mp2"])
def test_gradients(fragment, both, method):
    """Gradients agree to 1e-6 E_h/a0, those of ghosts too."""
    ours, theirs = both(fragment((1,), (1, 2)), method, "6-31g", "gradient")
    assert ours.return_result.shape == (6, 3)
    assert np.abs(ours.return_result - theirs.return_result).max() < 1e-6
    assert ours.properties.return_energy == pytest.approx(theirs.properties.return_energy, abs=1e-9, rel=0)
    assert np.array_equal(ours.properties.return_gradient, ours.return_result)


def test_hessian(fragment, both):
    """Hessians of HF agree to 1e-5 E_h/a0^2, and bring the gradient with them."""
    ours, theirs = both(fragment((1,), (1, 2)), "hf", "sto-3g", "hessian")
    assert ours.return_result.shape == (18, 18)
    assert np.abs(ours.return_result - theirs.return_result).max() < 1e-5
    assert np.abs(ours.properties.return_gradient - theirs.properties.return_gradient).max() < 1e-6


def test_functional(fragment, both):
    """Density functionals agree as far as their grids allow."""
    grid = {"dft_radial_points": 75, "dft_spherical_points": 302}
    ours, theirs = both(fragment((1,), (1, 2)), "pbe", "sto-3g", "energy", grid)
    assert ours.return_result == pytest.approx(theirs.return_result, abs=1e-5, rel=0)
    assert ours.properties.scf_xc_energy == pytest.approx(theirs.properties.scf_xc_energy, abs=1e-4, rel=0)


def test_properties(fragment, both):
    """Counts are of all atoms and of the electrons of real ones; the dipole moment is in e a0."""
    ours, theirs = both(fragment((1,), (1, 2), **CATION), "hf", "sto-3g")
    found, expected = ours.properties, theirs.properties
    for name in ("calcinfo_natom", "calcinfo_nbasis", "calcinfo_nmo", "calcinfo_nalpha", "calcinfo_nbeta"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.scf_dipole_moment == pytest.approx(expected.scf_dipole_moment, abs=1e-6)
    assert found.scf_two_electron_energy == pytest.approx(expected.scf_two_electron_energy, abs=1e-7)
    assert found.scf_iterations > 3
    assert ours.extras["qcvars"]["CURRENT ENERGY"] == ours.return_result
