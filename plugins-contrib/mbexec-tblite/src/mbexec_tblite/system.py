"""From a QCSchema molecule to what tblite computes: the real atoms, with a charge and a spin they can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qcelemental.models.v2 import Molecule
from qcengine.exceptions import InputError

__all__ = ["System", "check_orbitals", "real_system"]

_HEAVIEST = 86

# Last element of a block, and how many electrons its atoms keep in the core; lanthanides keep all but three.
_CORES = ((2, 0), (10, 2), (18, 10), (29, 18), (36, 28), (47, 36), (54, 46), (56, 54), (79, 68), (86, 78))
_LANTHANIDES = range(57, 72)


def _valence(number: int) -> int:
    if number in _LANTHANIDES:
        return 3
    return next(number - core for last, core in _CORES if number <= last)


# By atomic number.
_VALENCES = np.array([0, *map(_valence, range(1, _HEAVIEST + 1))])


@dataclass(frozen=True, eq=False)
class System:
    """What tblite computes.

    Parameters
    ----------
    numbers : (n,) int array
        Atomic numbers of the real atoms.
    positions : (n, 3) float array, a0
        Where they are.
    charge : int
        Of the molecule.
    unpaired : int
        Number of unpaired electrons.
    real : (nat,) bool array
        Which atoms of the molecule these are.
    """

    numbers: NDArray[np.integer[Any]]
    positions: NDArray[np.float64]
    charge: int
    unpaired: int
    real: NDArray[np.bool_]

    def padded(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put rows of the real atoms among rows of zeros for the ghosts.

        Parameters
        ----------
        rows : (n, 3) float array
            Of the real atoms.

        Returns
        -------
        (nat, 3) float array
            Of all atoms.
        """
        if len(rows) == len(self.real):
            return rows
        full = np.zeros((len(self.real), 3))
        full[self.real] = rows
        return full


def real_system(molecule: Molecule) -> System:
    """Leave the ghosts out: xTB has no basis that a neighbour could borrow.

    Parameters
    ----------
    molecule : Molecule
        Geometry in a0.

    Returns
    -------
    System
        With a number of electrons that tblite can handle; given fewer than none it would end the process.

    Raises
    ------
    InputError
        No atom is real, an element has no parameters, or charge and multiplicity are impossible.
    """
    real, numbers, positions = molecule.real, molecule.atomic_numbers, molecule.geometry
    if not real.all():
        if not real.any():
            raise InputError(
                f"All atoms of the molecule ({', '.join(molecule.symbols)}) are ghosts, and xTB leaves ghosts out; "
                "give it a real atom."
            )
        numbers, positions = numbers[real], positions[real]
    if numbers.max() > _HEAVIEST:
        unknown = str(molecule.symbols[real][numbers.argmax()])
        raise InputError(f"xTB has parameters up to radon, and the molecule contains {unknown!r}; use another program.")
    return System(numbers, positions, *_charge_and_spin(molecule, numbers), real)


def _charge_and_spin(molecule: Molecule, numbers: NDArray[np.integer[Any]]) -> tuple[int, int]:
    charge, multiplicity = molecule.molecular_charge, molecule.molecular_multiplicity
    if charge != int(charge) or multiplicity != int(multiplicity):
        raise InputError(
            f"xTB needs a whole charge and multiplicity, and the molecule has {charge!r} and {multiplicity!r}."
        )
    electrons = _valence_electrons(numbers) - int(charge)
    unpaired = int(multiplicity) - 1
    if not 0 <= unpaired <= electrons or (electrons - unpaired) % 2:
        raise InputError(
            f"Charge {charge:g} and multiplicity {multiplicity:g} are impossible with {electrons} valence electrons; "
            "the multiplicity is one more than the number of unpaired electrons, and 4f electrons are in xTB's core."
        )
    return int(charge), unpaired


def _valence_electrons(numbers: NDArray[np.integer[Any]]) -> int:
    """Of the neutral atoms, as xTB counts them."""
    return int(_VALENCES[numbers].sum())


def check_orbitals(system: System, norbitals: int) -> None:
    """Refuse more electrons of a spin than there are orbitals; tblite would leave some out.

    Parameters
    ----------
    system : System
        What is to be computed.
    norbitals : int
        How many orbitals the method gives it.

    Raises
    ------
    InputError
        Too negative a charge, or too high a multiplicity.
    """
    electrons = _valence_electrons(system.numbers) - system.charge
    if (electrons + system.unpaired) // 2 > norbitals:
        raise InputError(
            f"Charge {system.charge} and multiplicity {system.unpaired + 1} are impossible: the {electrons} valence "
            f"electrons do not fit into {norbitals} orbitals with {system.unpaired} of them unpaired."
        )
