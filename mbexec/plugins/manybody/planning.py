"""From QCSchema's many-body keywords to the fragments and coefficients that they ask for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from mbexec import Expansion, FragmentSets, InputError, Plan, expand
from mbexec.plugins.manybody.extras import (
    cluster_properties,
    cutoff_measure,
    cutoffs,
    energy_screen,
    expanded_properties,
    symmetry_tolerance,
)
from mbexec.plugins.manybody.motions import moves_moments
from mbexec.plugins.manybody.near import screened_sets
from mbexec.plugins.manybody.symmetry import find_symmetry

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyKeywords

__all__ = ["expanded", "make_plan", "returns_total"]

_AUTO = "(auto)"
_MOST = 20_000_000


def make_plan(spec: ManyBodyInput) -> Plan:
    """The expansion up to max_nbody, over the fragment sets that the cutoffs keep: all if there are none."""
    driver = spec.specification.driver.value
    if driver not in ("energy", "gradient", "hessian"):
        raise InputError(f"The driver is {driver!r}; allowed are energy, gradient and hessian.")
    if spec.specification.keywords.embedding_charges:
        raise InputError("embedding_charges are not supported; leave them out.")
    cluster_properties(spec)  # for what is wrong with it
    return _with_symmetry(Plan(spec, expanded(spec), expanded_properties(spec)))


def _with_symmetry(plan: Plan) -> Plan:
    """The plan, with its duplicates if they are wanted."""
    tolerance = symmetry_tolerance(plan.spec)
    if tolerance is None:
        return plan
    if energy_screen(plan.spec) is not None:
        raise InputError(
            "mbe.symmetry_tolerance and mbe.screen can't be used together: which of the sets that are the same has to "
            "run would depend on what screening keeps. Leave one of them out."
        )
    found = find_symmetry(plan.spec.molecule, plan.expansion, tolerance, fixed=moves_moments(plan))
    return attrs.evolve(plan, symmetry=found)


def expanded(spec: ManyBodyInput, sets: FragmentSets | None = None) -> Expansion:
    """The expansion that an input asks for, over the given collection of fragment sets or over all of them."""
    keywords = spec.specification.keywords
    nfr = _fragments(spec)
    levels = _levels(keywords, nfr, list(spec.specification.specification))
    max_nbody = max(n for n in levels if isinstance(n, int))
    whole_only = _whole_only(keywords, levels, max_nbody == nfr)
    bsse_type = _treatments(keywords, levels, max_nbody == nfr)
    return expand(
        sets or _sets(spec, max_nbody, whole_only, bsse_type),
        bsse_type=bsse_type,
        levels=levels,
        return_total_data=returns_total(spec),
        supersystem_ie_only=whole_only,
    )


def _sets(spec: ManyBodyInput, max_nbody: int, whole_only: bool, bsse_type: Sequence[str]) -> FragmentSets:
    """The fragment sets that the cutoffs keep."""
    nfr = len(spec.molecule.fragments)
    within = _cutoffs(spec, max_nbody, whole_only)
    if not whole_only:  # below the first cutoff, all sets are kept
        _check_size(nfr, [math.comb(nfr, n) for n in range(1, min(within, default=max_nbody + 1))], bsse_type)
    if not within:
        return FragmentSets.full(nfr, 1 if whole_only else max_nbody)
    sets = screened_sets(spec.molecule, max_nbody, within, cutoff_measure(spec), _MOST)
    kept = [len(sets.contributing(n)) for n in range(1, max_nbody + 1)]
    _check_size(nfr, kept, bsse_type)
    if max_nbody > 1 and not any(kept[1:]):
        warnings.warn(
            "The cutoffs keep no two fragments together: what is said to be their interaction is zero since nothing "
            "of it is computed. Lengths are in molecule.units in job files (angstrom if not given), in a0 in QCSchema.",
            stacklevel=3,
        )
    return sets


def _cutoffs(spec: ManyBodyInput, max_nbody: int, whole_only: bool) -> dict[int, float]:
    """The cutoffs, a0, by order; those that can have no effect are refused, or told of where it depends on others."""
    found = cutoffs(spec)
    cutoff_measure(spec)  # for what is wrong with it
    if found and whole_only:
        raise InputError("supersystem_ie_only has no orders in between that a cutoff could thin out; leave one out.")
    keywords = spec.specification.keywords
    if found and keywords.max_nbody is None and not keywords.levels:
        raise InputError(
            f"mbe.cutoff without mbe.max_nbody would make an expansion up to all {max_nbody} fragments; "
            f"set max_nbody to the size of the largest sets, such as {min(3, max_nbody)}."
        )
    if beyond := [order for order in found if order > max_nbody]:
        raise InputError(
            f"mbe.cutoff has a length for {beyond[0]} bodies, but the expansion ends at {max_nbody}; "
            f"leave it out, or {'add an order to mbe.levels' if keywords.levels else 'raise max_nbody'}."
        )
    for order, length in found.items():
        if tighter := [below for below in found if below < order and found[below] < length]:
            warnings.warn(
                f"mbe.cutoff for {order} bodies has no effect: a set is kept only if its subsets are, and the cutoff "
                f"for {tighter[-1]} bodies is less.",
                stacklevel=2,
            )
    return found


def _check_size(nfr: int, counts: Sequence[int], bsse_type: Sequence[str]) -> None:
    """Refuse what could never run before it fills the memory."""
    count = sum(number * (2**n if "vmfc" in bsse_type else 1) for n, number in enumerate(counts, start=1))
    if count > _MOST:
        raise InputError(
            f"{nfr} fragments up to {len(counts)}-body make {count:.2g} fragment calculations; "
            f"set max_nbody to less or give a cutoff, so that there are at most {_MOST:.0g}."
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
        raise InputError(
            "supersystem_ie_only needs max_nbody, or the highest of levels, to be the number of fragments; "
            "change one of them."
        )
    if "vmfc" in [bsse.value for bsse in keywords.bsse_type]:
        raise InputError("supersystem_ie_only saves nothing with vmfc; use cp or nocp, or leave it out.")
    if len(set(levels.values())) > 1:
        raise InputError(
            f"supersystem_ie_only has one model chemistry, but levels = {dict(keywords.levels or {})!r} has several; "
            "leave one of them out."
        )
    return True
