"""From QCSchema's many-body keywords to the fragments and coefficients that they ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbexec import FragmentSets, InputError, Plan, expand
from mbexec.plugins.manybody.extras import cluster_properties, expanded_properties

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyKeywords

__all__ = ["make_plan", "returns_total"]

_AUTO = "(auto)"
_MOST = 20_000_000


def make_plan(spec: ManyBodyInput) -> Plan:
    """The full expansion up to max_nbody."""
    keywords = spec.specification.keywords
    nfr = _fragments(spec)
    driver = spec.specification.driver.value
    if driver not in ("energy", "gradient", "hessian"):
        raise InputError(f"The driver is {driver!r}; allowed are energy, gradient and hessian.")
    if keywords.embedding_charges:
        raise InputError("embedding_charges are not supported; leave them out.")
    cluster_properties(spec)  # for what is wrong with it
    levels = _levels(keywords, nfr, list(spec.specification.specification))
    max_nbody = max(n for n in levels if isinstance(n, int))
    whole_only = _whole_only(keywords, levels, max_nbody == nfr)
    bsse_type = _treatments(keywords, levels, max_nbody == nfr)
    if not whole_only:
        _check_size(nfr, max_nbody, "vmfc" in bsse_type)
    expansion = expand(
        FragmentSets.full(nfr, 1 if whole_only else max_nbody),
        bsse_type=bsse_type,
        levels=levels,
        return_total_data=returns_total(spec),
        supersystem_ie_only=whole_only,
    )
    return Plan(spec, expansion, expanded_properties(spec))


def _check_size(nfr: int, max_nbody: int, vmfc: bool) -> None:
    """Refuse what could never run before it fills the memory."""
    count = sum(math.comb(nfr, n) * (2**n if vmfc else 1) for n in range(1, max_nbody + 1))
    if count > _MOST:
        raise InputError(
            f"{nfr} fragments up to {max_nbody}-body make {count:.2g} fragment calculations; "
            f"set max_nbody to less, so that there are at most {_MOST:.0g}."
        )


def returns_total(spec: ManyBodyInput) -> bool:
    """Whether total or interaction data is wanted; QCSchema's default depends on the driver."""
    given = spec.specification.keywords.return_total_data
    return spec.specification.driver.value != "energy" if given is None else bool(given)


def _fragments(spec: ManyBodyInput) -> int:
    fragments = spec.molecule.fragments
    if len(fragments) < 2:
        raise InputError(
            "The molecule has one fragment; a many-body expansion needs two or more. "
            "Part them by lines of -- in molecule.geometry, or give molecule.fragments."
        )
    return len(fragments)


def _levels(keywords: ManyBodyKeywords, nfr: int, labels: Sequence[str]) -> dict[int | str, str]:
    """The model chemistry of each nbody from 1 up, and perhaps of the supersystem."""
    whole = nfr if keywords.max_nbody is None else keywords.max_nbody
    given: Mapping[Any, str] = keywords.levels or {whole: _AUTO}
    numbers = sorted(n for n in given if n != "supersystem")
    if not numbers:
        raise InputError(f"levels = {dict(given)!r} has the supersystem alone; add a number of bodies, from 1 up.")
    if numbers[0] < 1 or numbers[-1] > nfr:
        what, value = ("levels", dict(given)) if keywords.levels else ("max_nbody", whole)
        raise InputError(f"{what} = {value!r} must lie between 1 and the {nfr} fragments that there are.")
    if keywords.levels and keywords.max_nbody not in (None, numbers[-1]):
        raise InputError(f"max_nbody = {keywords.max_nbody} contradicts levels, which end at {numbers[-1]}.")
    if len(set(given.values())) < len(given):
        raise InputError(
            f"levels = {dict(given)!r} names a model chemistry twice; a level counts for all n-bodies below it "
            "that have none of their own, so name each once."
        )
    if missing := [label for label in given.values() if label not in labels]:
        known = ", ".join(labels) or "none"
        raise InputError(f"The model chemistry {missing[0]!r} has no specification. Known: {known}.")
    below = iter(numbers)
    level = next(below)
    filled: dict[int | str, str] = {}
    for nbody in range(1, numbers[-1] + 1):
        level = level if nbody <= level else next(below)
        filled[nbody] = given[level]
    if "supersystem" in given:
        if numbers[-1] == nfr:
            raise InputError(f"levels reach all {nfr} fragments, so the supersystem adds nothing; leave one out.")
        filled["supersystem"] = given["supersystem"]
    return filled


def _treatments(keywords: ManyBodyKeywords, levels: Mapping[int | str, str], complete: bool) -> list[str]:
    """The BSSE treatments asked for, and those that vmfc gives for nothing."""
    bsse_type = [bsse.value for bsse in keywords.bsse_type]
    if not bsse_type:
        raise InputError("bsse_type is empty; allowed are nocp, cp and vmfc.")
    if "vmfc" in bsse_type and len(set(levels.values())) == 1:
        bsse_type += ["nocp"] + ["cp"] * complete
    return list(dict.fromkeys(bsse_type))


def _whole_only(keywords: ManyBodyKeywords, levels: Mapping[int | str, str], complete: bool) -> bool:
    if not keywords.supersystem_ie_only:
        return False
    if not complete:
        what = "the highest of levels" if keywords.levels else "max_nbody"
        raise InputError(f"supersystem_ie_only needs {what} to be the number of fragments; change one of them.")
    if "vmfc" in [bsse.value for bsse in keywords.bsse_type]:
        raise InputError("supersystem_ie_only saves nothing with vmfc; use cp or nocp, or leave it out.")
    if len(set(levels.values())) > 1:
        raise InputError(
            f"supersystem_ie_only has one model chemistry, but levels = {dict(keywords.levels or {})!r} has several; "
            "leave one of them out."
        )
    return True
