"""QCSchema as people write it, looked at before its models are built: their own words are for their authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import qcelemental as qcel

from mbexec.core.errors import InputError
from mbexec.core.geometry import Fragment, check_apart, check_groups

__all__ = ["check_charges", "check_fragments", "check_real", "check_states", "check_written", "shown"]


def check_written(given: Mapping[str, Any]) -> None:
    """Refuse what is plainly wrong in a many-body input, of any version; what is left out or a model is left alone.

    Parameters
    ----------
    given
        A QCSchema ManyBodyInput as a dict.

    Raises
    ------
    InputError
        Names the key, what is given and what is allowed.
    """
    if isinstance(molecule := given.get("molecule"), Mapping):
        _check_molecule(molecule)
    if isinstance(specification := given.get("specification"), Mapping):
        _check_specification(specification)


def _check_specification(specification: Mapping[str, Any]) -> None:
    where, words = "specification", "a table of model chemistries by label, or one of them"
    _check(specification, where, "specification", words, lambda value: isinstance(value, Mapping))
    if isinstance(keywords := specification.get("keywords"), Mapping):
        words = "nocp, cp or vmfc, or a list of them"
        _check(keywords, "specification.keywords", "bsse_type", words, _is_texts)


def _check(table: Mapping[str, Any], where: str, key: str, words: str, test: Callable[[Any], bool]) -> None:
    """Refuse a value that is there and not what the words say."""
    if key in table and not test(table[key]):
        raise InputError(f"{where}.{key} = {shown(table[key])} must be {words}.")


def _check_molecule(molecule: Mapping[str, Any]) -> None:
    if missing := [key for key in ("symbols", "geometry") if key not in molecule]:
        raise InputError(f"molecule.{missing[0]} is missing; a QCSchema molecule has symbols and geometry.")
    _check(molecule, "molecule", "symbols", "a list of elements, one an atom", lambda v: _is_list(v) and len(v) > 0)
    nat = len(molecule["symbols"])
    if strange := [symbol for symbol in molecule["symbols"] if not _is_element(symbol)]:
        raise InputError(f"molecule.symbols has {strange[0]!r}, which is not an element.")
    words = f"three finite numbers for each of {nat} atoms, in a0"
    _check(molecule, "molecule", "geometry", words, lambda value: _is_numbers(value, 3 * nat))
    check_apart(list(map(str, molecule["symbols"])), np.asarray(molecule["geometry"], dtype=np.float64).reshape(-1, 3))
    words = f"a list with one entry for each of {nat} atoms"
    for key in ("real", "atom_labels"):
        _check(molecule, "molecule", key, words, lambda value: value is None or (_is_list(value) and len(value) == nat))
    words = f"a list of numbers, one for each of {nat} atoms"
    for key in ("masses", "mass_numbers", "atomic_numbers"):
        _check(molecule, "molecule", key, words, lambda value: value is None or _is_numbers(value, nat))
    if molecule.get("real") is not None:
        check_real(molecule["real"])
    for key in ("molecular_charge", "molecular_multiplicity"):
        _check(molecule, "molecule", key, "a whole number", lambda value: value is None or _is_wholes(value, 1))
    _check_fragments(molecule, nat)


def _check_fragments(molecule: Mapping[str, Any], nat: int) -> None:
    fragments = molecule.get("fragments")
    if fragments is None:
        fragments = [range(nat)]
    else:
        check_fragments(fragments, nat)
    check_states(molecule, fragments)
    charges, multiplicities = molecule.get("fragment_charges"), molecule.get("fragment_multiplicities")
    if charges is not None and multiplicities is not None:
        for number, atoms in enumerate(fragments, start=1):
            symbols = tuple(str(molecule["symbols"][int(atom)]) for atom in atoms)
            state = float(charges[number - 1]), int(multiplicities[number - 1])
            Fragment(symbols, np.empty((len(atoms), 3)), *state).checked_multiplicity(number)
    if charges is not None and molecule.get("molecular_charge") is not None:
        check_charges(charges, molecule["molecular_charge"])


def check_fragments(fragments: Any, nat: int) -> None:
    """Refuse what is no list of lists of atoms, each in its place."""
    if not (_is_list(fragments) and len(fragments) > 0 and all(map(_is_group, fragments))):
        raise InputError(
            f"molecule.fragments = {shown(fragments)} must be lists of atom numbers from 0, such as [[0, 1, 2], [3]]."
        )
    check_groups([[int(atom) for atom in atoms] for atoms in fragments], nat)


def check_states(molecule: Mapping[str, Any], fragments: Sequence[Any]) -> None:
    """Refuse charges and multiplicities of fragments that are not whole numbers, one a fragment."""
    for key in ("fragment_charges", "fragment_multiplicities"):
        words = f"a list of whole numbers, one a fragment ({len(fragments)})"
        _check(molecule, "molecule", key, words, lambda value: value is None or _is_wholes(value, len(fragments)))


def check_real(real: Sequence[Any]) -> None:
    """Refuse ghosts."""
    if ghosts := [atom for atom, here in enumerate(real) if not here]:
        raise InputError(
            f"Atom {ghosts[0]} of the molecule, counted from 0, is a ghost; leave ghosts out, "
            "those that bsse_type asks for are put in as needed."
        )


def check_charges(charges: Sequence[float], total: float) -> None:
    """Refuse a total charge that is not the sum of the fragments' charges."""
    if not abs(sum(charges) - total) < 1e-6:
        raise InputError(
            f"molecule.molecular_charge is {total:g}, but the charges of the fragments add up to {sum(charges):g}; "
            "correct one of them."
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (_is_list(value) and all(isinstance(word, str) for word in value))


def _is_group(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and _is_wholes(value, len(value))


def _is_element(symbol: Any) -> bool:
    known = qcel.periodictable.E
    return str(symbol).title() in known[1:] or (str(symbol).isdecimal() and 0 < int(symbol) < len(known))


def _is_numbers(value: Any, count: int) -> bool:
    try:
        return np.size(value) == count and bool(np.isfinite(np.asarray(value, dtype=np.float64)).all())
    except (TypeError, ValueError):
        return False


def _is_wholes(value: Any, count: int) -> bool:
    return _is_numbers(value, count) and bool((np.asarray(value, dtype=np.float64) % 1 == 0).all())


def shown(value: Any) -> str:
    """A value in a message: one line, not too long."""
    return f"{' '.join(repr(value).split()):.80}"
