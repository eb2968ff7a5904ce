"""Gradients and Hessians are the derivatives of what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.qc

STEP = 5e-4  # a0


@pytest.fixture
def molecule(fragment):
    """A water, and beside it an oxygen and a hydrogen that are ghosts."""
    water = fragment((1,), (1, 2))
    return fragment(symbols=water.symbols[:5], geometry=water.geometry[:5], real=[True, True, True, False, False])


def slopes(quantity, molecule, coordinates=range(15)):
    """Central differences of a quantity over coordinates of a molecule of five atoms."""

    def at(coordinate, shift):
        geometry = molecule.geometry.copy()
        geometry.flat[coordinate] += shift
        return quantity(molecule.model_copy(update={"geometry": geometry}))

    return np.array([(at(i, STEP) - at(i, -STEP)) / (2 * STEP) for i in coordinates])


def cation(molecule, reference):
    """The molecule that a reference is for."""
    if reference == "rhf":
        return molecule
    return molecule.model_copy(update={"molecular_charge": 1.0, "molecular_multiplicity": 2})


@pytest.mark.parametrize(
    ("method", "reference", "keywords"),
    [
        *(("hf", reference, {"density_fit": fit}) for reference in ("rhf", "uhf", "rohf") for fit in (False, True)),
        *(("mp2", reference, {"freeze_core": core}) for reference in ("rhf", "uhf") for core in (False, True)),
        ("ccsd", "rhf", {}),
        ("ccsd", "uhf", {"freeze_core": True}),
        ("ccsd(t)", "rhf", {}),
        ("ccsd(t)", "rhf", {"freeze_core": True}),
    ],
)
def test_gradient(compute, molecule, method, reference, keywords):
    """The gradient, ghosts included, is the slope of the energy to 1e-6 E_h/a0."""
    molecule, keywords = cation(molecule, reference), keywords | {"reference": reference}
    coordinates = [4, 9] if method.startswith("cc") else [0, 2, 4, 8, 9, 14]
    gradient = compute(molecule, method, driver="gradient", keywords=keywords).return_result.ravel()[coordinates]
    numerical = slopes(lambda moved: compute(moved, method, keywords=keywords).return_result, molecule, coordinates)
    assert np.abs(gradient - numerical).max() < 1e-6


@pytest.mark.parametrize("density_fit", [False, True], ids=["exact", "fitted"])
@pytest.mark.parametrize("reference", ["rhf", "uhf"])
def test_hessian(compute, molecule, reference, density_fit):
    """The Hessian, ghosts included, is the slope of the gradient to 1e-5 E_h/a0^2."""
    molecule, keywords = cation(molecule, reference), {"reference": reference, "density_fit": density_fit}
    hessian = compute(molecule, driver="hessian", keywords=keywords).return_result
    numerical = slopes(
        lambda moved: compute(moved, driver="gradient", keywords=keywords).return_result.ravel(), molecule
    )
    assert np.abs(hessian - numerical).max() < 1e-5
