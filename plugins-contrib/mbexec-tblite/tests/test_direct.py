"""The harness changes nothing: tblite called by itself gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from tblite.interface import Calculator
from threadpoolctl import threadpool_limits

pytestmark = pytest.mark.qc

METHODS = ["GFN1-xTB", "GFN2-xTB", "IPEA1-xTB"]
STATES = [(0, 1), (1, 2), (-1, 2), (0, 3)]


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


def singlepoint(molecule, method, **settings):
    """Result of tblite alone, on the real atoms."""
    calculator = Calculator(
        method,
        molecule.atomic_numbers[molecule.real],
        molecule.geometry[molecule.real],
        molecule.molecular_charge,
        int(molecule.molecular_multiplicity) - 1,
    )
    for name, value in ({"verbosity": 0, "accuracy": 0.001} | settings).items():
        calculator.set(name, value)
    return calculator.singlepoint()


@pytest.mark.parametrize("bas", [(1,), (1, 2, 3)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(("charge", "multiplicity"), STATES)
@pytest.mark.parametrize("method", METHODS)
def test_methods(fragment, compute, method, charge, multiplicity, bas):
    """Energy, gradient and dipole of every method equal tblite's own, for ions and open shells too."""
    molecule = fragment((1,), bas, molecular_charge=charge, molecular_multiplicity=multiplicity)
    result = compute(molecule, method, driver="gradient")
    direct = singlepoint(molecule, method)
    assert result.properties.return_energy == direct.get("energy")
    assert np.array_equal(result.return_result[molecule.real], direct.get("gradient"))
    assert np.array_equal(result.properties.scf_dipole_moment, direct.get("dipole"))


@pytest.mark.parametrize(
    ("keywords", "settings"),
    [
        ({"accuracy": 1.0}, {"accuracy": 1.0}),
        ({"accuracy": 2}, {"accuracy": 2.0}),
        ({"max_iter": 20}, {"max-iter": 20}),
        ({"electronic_temperature": 5000}, {"temperature": 5000 * 3.166808578545117e-6}),
    ],
)
def test_keywords(fragment, compute, keywords, settings):
    """A keyword does what the setting of tblite does."""
    molecule = fragment((1, 2))
    energy = compute(molecule, keywords=keywords).return_result
    assert energy == singlepoint(molecule, "GFN2-xTB", **settings).get("energy")


def test_temperature_in_kelvin(fragment, compute):
    """300 K, tblite's own temperature to its digits, give its energy, and hot electrons another."""
    own, same, hot = (
        compute(fragment(), keywords=keywords).return_result
        for keywords in ({}, {"electronic_temperature": 300.0}, {"electronic_temperature": 20000.0})
    )
    assert same == pytest.approx(own, abs=1e-12, rel=0)
    assert hot < own - 1e-3
