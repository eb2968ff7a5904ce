"""Gradients are the derivatives of the energy, and ghosts have no part in either."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.qc

STEP = 1e-3  # a0
STATES = [(0, 1), (1, 2), (-1, 2)]


def slopes(energy, molecule):
    """Five-point differences of an energy over every coordinate."""

    def at(coordinate, shift):
        geometry = molecule.geometry.copy()
        geometry.flat[coordinate] += shift * STEP
        return energy(molecule.model_copy(update={"geometry": geometry}))

    return np.array(
        [(8 * (at(i, 1) - at(i, -1)) - at(i, 2) + at(i, -2)) / (12 * STEP) for i in range(molecule.geometry.size)]
    ).reshape(-1, 3)


@pytest.mark.parametrize(("charge", "multiplicity"), STATES)
@pytest.mark.parametrize("method", ["gfn1-xtb", "gfn2-xtb", "ipea1-xtb"])
def test_gradient(fragment, compute, method, charge, multiplicity):
    """The gradient is the slope of the energy to 1e-7 E_h/a0 with the default accuracy, and zero for ghosts."""
    molecule = fragment((1, 2), (1, 2, 3), molecular_charge=charge, molecular_multiplicity=multiplicity)
    gradient = compute(molecule, method, driver="gradient").return_result
    numerical = slopes(lambda moved: compute(moved, method).return_result, molecule)
    assert np.abs(gradient - numerical).max() < 1e-7
    assert np.array_equal(gradient[6:], np.zeros((3, 3)))


@pytest.mark.parametrize("method", ["gfn1-xtb", "gfn2-xtb", "ipea1-xtb"])
@pytest.mark.parametrize("bas", [(1, 2), (1, 2, 3)])
@pytest.mark.parametrize("frag", [(1,), (2,), (1, 2)])
def test_ghosts_are_left_out(fragment, compute, frag, bas, method):
    """A fragment among ghosts is the bare fragment, to the last bit."""
    bare = compute(fragment(frag), method, driver="gradient")
    molecule = fragment(frag, bas)
    ghosted = compute(molecule, method, driver="gradient")
    assert ghosted.properties.return_energy == bare.properties.return_energy
    assert np.array_equal(ghosted.return_result[molecule.real], bare.return_result)
    assert not ghosted.return_result[~molecule.real].any()
    assert ghosted.return_result.shape == (3 * len(bas), 3)


def test_ghosts_between_real_atoms(fragment, compute):
    """Rows of the gradient stay with their atoms where ghosts stand between them."""
    bare = compute(fragment((1, 3)), driver="gradient").return_result
    ghosted = compute(fragment((1, 3), (1, 2, 3)), driver="gradient").return_result
    assert np.array_equal(ghosted[[0, 1, 2, 6, 7, 8]], bare)
    assert not ghosted[3:6].any()
