"""QCSchema in: job files, QCSchema files, dicts and models to one valid ``ManyBodyInput`` of version 2."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
import qcelemental as qcel
from qcmanybody.models.v2 import ManyBodyInput

from mbexec.core.config import Entries, Layer
from mbexec.core.errors import ConfigError, InputError
from mbexec.core.geometry import Fragment, check_apart
from mbexec.core.jobfile import CHEMISTRY, check, from_job
from mbexec.core.ladder import check_ladder
from mbexec.core.qcschema import check_charges, check_fragments, check_real, check_states, check_written, shown

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["many_body_input"]

_BY_ORDER = ("levels", "cutoff", "thresholds")


def many_body_input(qcschema: Any, layers: Sequence[Layer], folder: Path) -> ManyBodyInput:
    """The many-body input, valid and of version 2.

    Parameters
    ----------
    qcschema
        What :func:`mbexec.core.opening.open_spec` returned.
    layers
        Settings; [molecule], [mbe] and [program] are taken from them unless the input is QCSchema.
    folder
        Where relative file names start.
    """
    chemistry: dict[str, dict[str, Any]] = {name: {} for name in CHEMISTRY}
    for layer in layers:
        for name in [name for name in CHEMISTRY if name in layer.tables]:
            if qcschema is not None:
                raise ConfigError(
                    f"{layer.source}: [{name}] settings are for job files; "
                    "this input is QCSchema and says it itself, so change it there."
                )
            _merge(chemistry[name], layer.tables[name])
        check(layer)
    if qcschema is not None:
        spec = _checked(_from_qcschema(qcschema))
        _check_electrons(spec.molecule)
        return spec
    return from_job(chemistry["molecule"], chemistry["mbe"], chemistry["program"], folder)


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Lay a table over another; tables within tables too, but for whole ones by number of bodies, which replace it."""
    for key, value in table.items():
        whole = key in _BY_ORDER and not isinstance(value, Entries)
        if isinstance(value, Mapping) and isinstance(into.get(key), dict) and not whole:
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _from_qcschema(given: Any) -> ManyBodyInput:
    if isinstance(given, ManyBodyInput):
        return given
    if not isinstance(given, dict):
        return _as_v2(given)
    check_written(given)
    given = _with_multiplicities(given)
    try:
        return ManyBodyInput(**given)
    except Exception as error:  # QCElemental's own checks raise whatever they meet
        return _from_v1(given, error)


def _from_v1(given: dict[str, Any], error: Exception) -> ManyBodyInput:
    """Try the older layout; what is wrong with the newer one is what to tell if that fails too."""
    from qcmanybody.models import v1

    try:
        return _as_v2(v1.ManyBodyInput(**given))
    except Exception:
        raise InputError(f"The input is not a QCSchema ManyBodyInput: {_first_problem(error)}") from error


def _as_v2(model: Any) -> ManyBodyInput:
    converted = model.convert_v(2)
    if not isinstance(converted, ManyBodyInput):
        raise InputError(f"The input is of type {type(model).__name__}; a QCSchema ManyBodyInput is needed.")
    return converted


def _checked(spec: ManyBodyInput) -> ManyBodyInput:
    """Refuse what QCElemental lets pass in a molecule that says it is validated, and ghosts: nobody would see them."""
    molecule = spec.molecule
    if strange := [symbol for symbol in molecule.symbols.tolist() if symbol not in qcel.periodictable.E[1:]]:
        near = f"; write {strange[0].title()}" if strange[0].title() in qcel.periodictable.E[1:] else ""
        raise InputError(f"molecule.symbols has {strange[0]!r}, which is not an element{near}.")
    check_real(molecule.real)
    check_fragments(molecule.fragments, len(molecule.symbols))
    names = ("fragment_charges", "fragment_multiplicities")
    check_states({name: getattr(molecule, name) for name in names}, molecule.fragments)
    if not np.isfinite(molecule.geometry).all():
        atom = int(np.argwhere(~np.isfinite(molecule.geometry))[0, 0])
        raise InputError(f"molecule.geometry of atom {atom}, counted from 0, is not three finite numbers.")
    check_apart(molecule.symbols.tolist(), molecule.geometry)
    for label, chemistry in spec.specification.specification.items():
        where = f"specification.specification[{label!r}]"
        if not chemistry.program:
            raise InputError(f"{where}.program = {chemistry.program!r} must be the name of a program.")
        if not isinstance(chemistry.keywords, Mapping):
            raise InputError(f"{where}.keywords = {shown(chemistry.keywords)} must be a table.")
        check_ladder(chemistry.extras, f"{where}.extras")
    return spec


def _check_electrons(molecule: Molecule) -> None:
    """Refuse charges and multiplicities that can't be; warn of a total multiplicity that no calculation will have.

    Raises
    ------
    InputError
        If a fragment's electrons don't fit its multiplicity, or the charges don't add up.
    """
    parts = zip(molecule.fragments, molecule.fragment_charges, molecule.fragment_multiplicities, strict=True)
    for number, (atoms, charge, multiplicity) in enumerate(parts, start=1):
        symbols = tuple(molecule.symbols[atoms].tolist())
        Fragment(symbols, molecule.geometry[atoms], charge, int(multiplicity)).checked_multiplicity(number)
    check_charges(molecule.fragment_charges, molecule.molecular_charge)
    high_spin = sum(multiplicity - 1 for multiplicity in molecule.fragment_multiplicities) + 1
    if molecule.molecular_multiplicity != high_spin:
        warnings.warn(
            f"molecule.molecular_multiplicity = {molecule.molecular_multiplicity:g} is not used: a calculation of "
            f"several fragments has their spins parallel, which makes {high_spin:g} for all of them.",
            stacklevel=2,
        )


def _first_problem(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']} (given: {shown(first['input'])})."


def _with_multiplicities(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in neutral, low-spin fragments where a neutral molecule says nothing: guessing them is exponential."""
    molecule = given.get("molecule")
    if not isinstance(molecule, dict) or "fragment_multiplicities" in molecule or not molecule.get("fragments"):
        return given
    if molecule.get("molecular_charge", 0) or molecule.get("molecular_multiplicity", 1) != 1:
        return given
    try:
        return {**given, "molecule": _filled(molecule)}
    except (LookupError, TypeError, ValueError, qcel.NotAnElementError):
        return given  # malformed, as QCElemental will say


def _filled(molecule: dict[str, Any]) -> dict[str, Any]:
    charges = molecule.get("fragment_charges") or [0.0] * len(molecule["fragments"])
    symbols = [molecule["symbols"][i] for atoms in molecule["fragments"] for i in atoms]
    sizes = [len(atoms) for atoms in molecule["fragments"]]
    ends = np.cumsum(sizes)
    low = [
        1 + (sum(map(qcel.periodictable.to_Z, symbols[end - size : end])) - int(charge)) % 2
        for size, end, charge in zip(sizes, ends, charges, strict=True)
    ]
    filled = {**molecule, "fragment_charges": charges, "fragment_multiplicities": low}
    filled.setdefault("molecular_multiplicity", sum(m - 1 for m in low) + 1)
    return filled
