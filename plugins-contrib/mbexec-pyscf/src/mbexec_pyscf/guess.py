"""PySCF's minao guess, with its basis parsed once per process.

``scf.hf.init_guess_by_minao`` reads the ANO file for each element each time it is called. Here the same
density is made from the kept shells, by the same PySCF functions in the same order: equal to the last bit.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import gto, lib
from pyscf.scf import addons, atom_hf

from mbexec_pyscf.basis import ano_basis

__all__ = ["minao_guess"]

# PySCF has no minao guess beyond curium.
_LAST_ELEMENT = 96


def minao_guess(mol: gto.Mole, reference: str) -> NDArray[np.float64] | None:
    """Density that PySCF's minao guess would give.

    Parameters
    ----------
    mol : gto.Mole
        Built.
    reference : str
        rhf, uhf or rohf.

    Returns
    -------
    (nao, nao) or (2, nao, nao) float array, or None
        One density for rhf, one per spin otherwise. None where PySCF's guess does more than project the ANO
        density and is better left to it: core potentials, superheavy elements, an unrestricted singlet (whose spin
        symmetry it breaks), nothing but ghost atoms.
    """
    symbols = [mol.atom_symbol(atom) for atom in range(mol.natm)]
    real = [atom for atom, symbol in enumerate(symbols) if not gto.is_ghost_atom(symbol)]
    heaviest = max((gto.charge(symbols[atom]) for atom in real), default=None)
    broken_symmetry = reference == "uhf" and mol.spin == 0
    if heaviest is None or heaviest > _LAST_ELEMENT or mol.has_ecp() or broken_symmetry:
        return None
    density = _projected(mol, real)
    return density if reference == "rhf" else np.array((density * 0.5, density * 0.5))


def _projected(mol: gto.Mole, real: list[int]) -> NDArray[np.float64]:
    """Density of the free atoms, projected onto the basis of the molecule."""
    free = [_free_atom(mol.atom_symbol(atom)) for atom in real]
    occupations = np.hstack([atom.occupations for atom in free])
    shells = {atom.element: atom.shells for atom in free}
    atoms = gto.Mole()
    atoms._atm, atoms._bas, atoms._env = atoms.make_env([mol._atom[atom] for atom in real], shells, [])
    atoms._built = True
    orbitals = addons.project_mo_nr2nr(atoms, np.eye(atoms.nao), mol)
    density = lib.dot(orbitals * occupations, orbitals.conj().T)
    # With its orbitals PySCF evaluates a density on the DFT grid in its own way, to other last bits.
    tagged: NDArray[np.float64] = lib.tag_array(density, mo_coeff=orbitals, mo_occ=occupations)
    return tagged


class _FreeAtom(NamedTuple):
    element: str
    occupations: NDArray[np.float64]
    shells: list[Any]


@functools.cache
def _free_atom(element: str) -> _FreeAtom:
    """Fractional occupations of a spherical atom, and the occupied ANO shells they belong to."""
    occupations, shells = [], []
    for angular, functions in enumerate(ano_basis(element)[:4]):
        ndocc, fraction = atom_hf.frac_occ(element, angular)
        occupations.append(np.repeat([2.0] * ndocc + [fraction], 2 * angular + 1))
        shells.append([angular, *(row[: ndocc + 2] for row in functions[1:])])
    return _FreeAtom(element, np.hstack(occupations), shells)
