"""What psi4 is told: molecule, method, options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qcelemental.models.v2 import AtomicInput, Molecule
from qcengine.exceptions import InputError, ResourceError

__all__ = ["make_request"]

_ORDERS = {"energy": 0, "gradient": 1, "hessian": 2}
_OPTION = re.compile(r"\w+", re.ASCII)
_GIB = 1024**3
_LEAST_MEMORY = 250 * 1024**2  # bytes; psi4 refuses less
# psi4 counts its large arrays only.
_SHARE_OF_ARRAYS = 0.95


def make_request(input_data: AtomicInput, memory: float) -> dict[str, Any]:
    """Describe a calculation to the script that runs inside psi4.

    Parameters
    ----------
    input_data : AtomicInput
        QCSchema v2.
    memory : float, GiB
        What the calculation may use.

    Returns
    -------
    dict
        Of plain JSON types.

    Raises
    ------
    InputError
        Something is asked for that is not offered.
    ResourceError
        psi4 needs more memory.
    """
    spec = input_data.specification
    driver, wavefunction = spec.driver.value, spec.protocols.wavefunction
    if driver not in _ORDERS:
        raise InputError(f"There is no {driver} of psi4 here; available: {', '.join(_ORDERS)}.")
    if wavefunction != "none":
        raise InputError(
            f"The protocol wavefunction={wavefunction.value!r} is not supported with psi4; leave it at 'none'."
        )
    keywords = _keywords(spec.keywords, input_data.molecule.molecular_multiplicity)
    return {
        "driver": driver,
        "method": spec.model.method,
        "basis": _basis(spec.model.basis),
        "arguments": _arguments(keywords.pop("function_kwargs", {}), driver),
        "keywords": keywords,
        "memory": _bytes(memory),
        "molecule": _molecule(input_data.molecule),
    }


def _basis(basis: object) -> str:
    """Name of the basis; empty for methods that bring their own."""
    if basis is not None and not isinstance(basis, str):
        raise InputError(
            f"psi4 takes a basis set by name here, and model.basis is a {type(basis).__name__}; "
            "give a string such as 'cc-pvdz'."
        )
    return basis or ""


def _keywords(given: Mapping[str, Any], multiplicity: float) -> dict[str, Any]:
    if odd := [name for name in given if not _OPTION.fullmatch(name)]:
        raise InputError(
            f"psi4 can have no option named {odd[0]!r}; give letters, digits and underscores, as in 'scf_type'."
        )
    keywords = {name.lower(): value for name, value in given.items()}
    if len(keywords) < len(given):
        twice = next(name for name in given if [other.lower() for other in given].count(name.lower()) > 1)
        raise InputError(f"The keyword {twice!r} is given twice, in different cases; psi4 ignores case, so give one.")
    if "basis" in keywords:
        raise InputError(f"basis={keywords['basis']!r} is not a keyword here; give it as the basis of the model.")
    if multiplicity != 1:
        keywords.setdefault("reference", "uhf")
    return keywords


def _arguments(given: object, driver: str) -> dict[str, Any]:
    """Arguments of psi4's driver function; derivatives are analytic unless those say otherwise."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"The keyword function_kwargs cannot be {given!r}: it takes a table of arguments of psi4's {driver}()."
        )
    return dict(given) if driver == "energy" else {"dertype": _ORDERS[driver], **given}


def _bytes(memory: float) -> int:
    size = int(memory * _GIB * _SHARE_OF_ARRAYS)
    if size < _LEAST_MEMORY:
        least = _LEAST_MEMORY / _GIB / _SHARE_OF_ARRAYS
        raise ResourceError(
            f"psi4 needs {least:.3f} GiB at the least, and the task configuration gives it {memory:.3g}; "
            "raise its memory, or run fewer tasks at once."
        )
    return size


def _molecule(molecule: Molecule) -> dict[str, Any]:
    """QCSchema v1, of one fragment: nothing depends on the fragments, and psi4 is slow to check many."""
    charge, multiplicity = molecule.molecular_charge, molecule.molecular_multiplicity
    if charge != int(charge) or multiplicity != int(multiplicity):
        raise InputError(
            f"psi4 needs a whole charge and multiplicity, and the molecule has {charge!r} and {multiplicity!r}."
        )
    return {
        "schema_name": "qcschema_molecule",
        "schema_version": 2,
        "symbols": molecule.symbols.tolist(),
        "geometry": molecule.geometry.ravel().tolist(),
        "real": molecule.real.tolist(),
        "molecular_charge": charge,
        "molecular_multiplicity": int(multiplicity),
        "fix_com": True,
        "fix_orientation": True,
        "fix_symmetry": "c1",
    }
