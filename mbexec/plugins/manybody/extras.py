"""What a many-body input asks for that QCSchema has no word for: ``specification.extras["mbexec"]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mbexec import InputError

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["cluster_properties", "expanded_properties"]

_KEPT = ("auto", "all", "none")


def cluster_properties(spec: ManyBodyInput) -> str:
    """Which fragments' own properties the result holds: "auto", "all" or "none"."""
    wanted: str = _own(spec).get("cluster_properties", "auto")
    if wanted not in _KEPT:
        raise _refused(spec)
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
        raise _refused(spec)
    shapes = _shapes()
    for name in names:
        if name not in shapes:
            raise InputError(
                f"mbe.properties has {name!r}, which can't be expanded; allowed are QCSchema's energies and moments: "
                f"{', '.join(sorted(shapes))}."
            )
    return {name: shapes[name] for name in names}


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
    given = spec.specification.extras.get("mbexec", {})
    if not isinstance(given, Mapping) or not set(given) <= {"cluster_properties", "properties"}:
        raise _refused(spec)
    return given


def _refused(spec: ManyBodyInput) -> InputError:
    return InputError(
        f'specification.extras["mbexec"] = {spec.specification.extras["mbexec"]!r:.80} can\'t be used; '
        'it may hold cluster_properties, which is "auto", "all" or "none", and properties, a list of names.'
    )
