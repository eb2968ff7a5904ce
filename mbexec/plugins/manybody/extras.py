"""What a many-body input asks for that QCSchema has no word for: ``specification.extras["mbexec"]``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mbexec import InputError
from mbexec.plugins.manybody.near import CLOSEST_ATOMS, MEASURES

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = [
    "Screen",
    "cluster_properties",
    "cutoff_measure",
    "cutoffs",
    "energy_screen",
    "expanded_properties",
    "symmetry_tolerance",
]

_KEPT = ("auto", "all", "none")
_LARGEST = 1e-3  # a0
_ALLOWED = {
    "cluster_properties": '"auto", "all" or "none"',
    "properties": "a list of names",
    "cutoff": 'a table of lengths above 0 in a0 by number of fragments, from 2 up, such as {"2": 23.0, "3": 11.0}',
    "cutoff_measure": " or ".join(f'"{measure}"' for measure in MEASURES),
    "screen": "a table of program, a label, thresholds, a table of numbers in E_h by number of fragments, and dropped, "
    'which is "cheap" or "ignore"',
    "symmetry_tolerance": f"a number above 0 and at most {_LARGEST} (a0)",
}
_DROPPED = ("cheap", "ignore")


@frozen
class Screen:
    """Which sets of fragments are worth a calculation, by what a cheap program says.

    Attributes
    ----------
    program
        Label of the cheap model chemistry.
    thresholds
        By the number of fragments of a set: the least that it must add beyond its subsets, E_h.
    dropped
        What stands for a set that adds less: "cheap", what the cheap program gave, or "ignore", nothing.
    """

    program: str
    thresholds: Mapping[int, float]
    dropped: str


def energy_screen(spec: ManyBodyInput) -> Screen | None:
    """What the input says of screening by energy, if it does."""
    given = _own(spec).get("screen")
    if given is None:
        return None
    known = {"program", "thresholds", "dropped"}
    if not isinstance(given, Mapping) or not {"program", "thresholds"} <= set(given) <= known:
        raise _refused(spec, "screen")
    thresholds, dropped = given["thresholds"], given.get("dropped", _DROPPED[0])
    if not isinstance(given["program"], str) or not _are_thresholds(thresholds) or dropped not in _DROPPED:
        raise _refused(spec, "screen")
    return Screen(given["program"], {int(key): float(thresholds[key]) for key in sorted(thresholds, key=int)}, dropped)


def _are_thresholds(given: Any) -> bool:
    return (
        isinstance(given, Mapping)
        and bool(given)
        and all(_is_order(key) and _is_number(least) and least >= 0 for key, least in given.items())
    )


def _is_order(key: Any) -> bool:
    return re.fullmatch("[1-9][0-9]*", str(key)) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def cluster_properties(spec: ManyBodyInput) -> str:
    """Which fragments' own properties the result holds: "auto", "all" or "none"."""
    wanted: str = _own(spec).get("cluster_properties", "auto")
    if wanted not in _KEPT:
        raise _refused(spec, "cluster_properties")
    return wanted


def expanded_properties(spec: ManyBodyInput) -> dict[str, tuple[int, ...]]:
    """Properties to expand besides those of the driver, and the shape of each.

    Raises
    ------
    InputError
        If one of them can't be expanded: it is no number, or its size depends on the fragment.
    """
    names = _own(spec).get("properties", ())
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise _refused(spec, "properties")
    shapes = _shapes()
    for name in names:
        if name not in shapes:
            raise InputError(
                f"mbe.properties has {name!r}, which can't be expanded; allowed are QCSchema's energies and moments: "
                f"{', '.join(sorted(shapes))}."
            )
    return {name: shapes[name] for name in names}


def cutoffs(spec: ManyBodyInput) -> dict[int, float]:
    """The greatest distance between two fragments of a set, a0, by the set's size; empty where all sets count."""
    given = _own(spec).get("cutoff", {})
    if not isinstance(given, Mapping) or not all(map(_is_cutoff, given.keys(), given.values())):
        raise _refused(spec, "cutoff")
    return {int(order): float(length) for order, length in sorted(given.items(), key=lambda item: int(item[0]))}


def _is_cutoff(order: Any, length: Any) -> bool:
    return _is_order(order) and int(order) > 1 and _is_number(length) and length > 0


def cutoff_measure(spec: ManyBodyInput) -> str:
    """Between what distances of fragments are taken: one of `MEASURES`."""
    measure: str = _own(spec).get("cutoff_measure", CLOSEST_ATOMS)
    if measure not in MEASURES:
        raise _refused(spec, "cutoff_measure")
    return measure


def symmetry_tolerance(spec: ManyBodyInput) -> float | None:
    """How far atoms of calculations that are taken for the same may be apart, a0; None if none are."""
    given = _own(spec).get("symmetry_tolerance")
    if given is None:
        return None
    if not _is_number(given) or not 0 < given <= _LARGEST:
        raise _refused(spec, "symmetry_tolerance")
    return float(given)


def _shapes() -> dict[str, tuple[int, ...]]:
    """Of the atomic properties in QCSchema that are as large for every fragment."""
    from qcelemental.models.v2 import AtomicProperties

    moments = {"_dipole_moment": (3,), "_quadrupole_moment": (3, 3)}
    found: dict[str, tuple[int, ...]] = {}
    for name in AtomicProperties.model_fields:
        if name.endswith("_energy") and name != "return_energy":
            found[name] = ()
        for end, shape in moments.items():
            if name.endswith(end):
                found[name] = shape
    return found


def _own(spec: ManyBodyInput) -> Mapping[str, Any]:
    if "mbexec" in (spec.molecule.extras or {}):
        raise InputError('molecule.extras["mbexec"] would not be looked at; move it to specification.extras["mbexec"].')
    given = spec.specification.extras.get("mbexec", {})
    known = ", ".join(_ALLOWED)
    if not isinstance(given, Mapping):
        raise InputError(f'specification.extras["mbexec"] = {given!r:.80} must be a table; it may have {known}.')
    if unknown := [key for key in given if key not in _ALLOWED]:
        raise InputError(f'specification.extras["mbexec"] has the unknown key {unknown[0]!r:.80}. Known: {known}.')
    return given


def _refused(spec: ManyBodyInput, key: str) -> InputError:
    given = spec.specification.extras["mbexec"][key]
    return InputError(f'specification.extras["mbexec"]["{key}"] = {given!r:.80} must be {_ALLOWED[key]}.')
