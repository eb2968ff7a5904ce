"""From a QCSchema molecule to PySCF's, ghost atoms, charge and spin included."""

from __future__ import annotations

from typing import Any, TextIO

from pyscf import gto
from qcelemental.models.v2 import Molecule
from qcengine.exceptions import InputError

from mbexec_pyscf.basis import effective_core, orbital_basis
from mbexec_pyscf.keywords import Keywords

__all__ = ["build_mole"]

# PySCF counts megabytes, a task configuration gibibytes.
_MB_PER_GIB = 1024**3 / 1e6


def build_mole(molecule: Molecule, basis: object, keywords: Keywords, memory: float, out: TextIO) -> gto.Mole:
    """Build PySCF's molecule.

    Parameters
    ----------
    molecule : Molecule
        Geometry in a0. Atoms that are not real get the basis functions of their element and nothing else.
    basis : str
        ``model.basis`` of the input.
    keywords : Keywords
        ``cart`` and ``verbose`` are used.
    memory : float, GiB
        What the calculation may use.
    out : text file
        Takes what PySCF prints.

    Returns
    -------
    gto.Mole
        Built, in the frame of ``molecule``.

    Raises
    ------
    InputError
        The basis, or charge and multiplicity, are impossible.
    """
    name = _basis_name(basis)
    charge, spin = _charge_and_spin(molecule)
    elements = {_label(s, real): str(s) for s, real in zip(molecule.symbols, molecule.real, strict=True)}
    mol = gto.Mole()
    mol.stdout, mol.verbose = out, keywords.verbose
    mol.max_memory = memory * _MB_PER_GIB
    mol.atom = _atoms(molecule)
    mol.unit, mol.cart = "Bohr", keywords.cart
    mol.charge, mol.spin = charge, spin
    mol.basis = {label: orbital_basis(name, element) for label, element in elements.items()}
    mol.ecp = _core_potentials(name, elements)
    mol.build(dump_input=False, parse_arg=False)
    # By its name PySCF finds the auxiliary basis that goes with a basis.
    mol.basis = name
    return mol


def _label(symbol: str, real: bool) -> str:
    return str(symbol) if real else f"ghost-{symbol}"


def _atoms(molecule: Molecule) -> list[tuple[str, list[float]]]:
    labels = map(_label, molecule.symbols, molecule.real)
    return list(zip(labels, molecule.geometry.tolist(), strict=True))


def _core_potentials(name: str, elements: dict[str, str]) -> dict[str, list[Any]]:
    """Core potentials of the real atoms; a ghost has no core to replace."""
    real = (label for label, element in elements.items() if label == element)
    found = {label: effective_core(name, label) for label in real}
    return {label: ecp for label, ecp in found.items() if ecp is not None}


def _basis_name(basis: object) -> str:
    if isinstance(basis, str) and basis.strip():
        return basis.strip()
    raise InputError(
        f"PySCF needs a basis set by name, and model.basis is {basis!r:.40}; give a string such as 'cc-pvdz'."
    )


def _charge_and_spin(molecule: Molecule) -> tuple[int, int]:
    """Charge and number of unpaired electrons.

    Raises
    ------
    InputError
        Not whole numbers, or more or fewer electrons than the multiplicity allows.
    """
    charge, multiplicity = molecule.molecular_charge, molecule.molecular_multiplicity
    if charge != int(charge) or multiplicity != int(multiplicity):
        raise InputError(
            f"PySCF needs a whole charge and multiplicity, and the molecule has {charge!r} and {multiplicity!r}."
        )
    electrons = int(molecule.atomic_numbers[molecule.real].sum()) - int(charge)
    spin = int(multiplicity) - 1
    if not 0 <= spin <= electrons or (electrons - spin) % 2:
        raise InputError(
            f"Charge {charge:g} and multiplicity {multiplicity:g} are impossible with {electrons} electrons; "
            "the multiplicity is one more than the number of unpaired electrons."
        )
    return int(charge), spin
