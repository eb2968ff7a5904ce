"""What is known of an expansion when some of its fragment calculations gave no result.

A sum is exact if it counts none of the missing calculations. Of any other an estimate is made: its increments that are
known, added up, where an increment is what a fragment set adds beyond its subsets. It is bounded as if increments
decayed with distance: an unknown one is taken to be no larger than twice the largest known one of its order whose
fragments are of the same kinds and no farther apart. Where there are fewer than four of those, there is no bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import Contribution, Plan
from mbexec.plugins.manybody.apart import Fragments
from mbexec.plugins.manybody.sums import NamedSum, Sums, named_sums, returned_sum, treatments

__all__ = ["partial_result"]

_LISTED = 100
# Increments at one distance differ by orientation, and some are zero by chance. The least that did in clusters of argon
# and water; docs/theory.md has how well it does in others.
_MARGIN = 2.0
_FEWEST = 4


def partial_result(plan: Plan, sums: Sums) -> dict[str, Any]:
    """What is known all the same, in plain JSON types.

    Returns
    -------
    dict
        not_run
            How many calculations never ran, and the labels of the first 100.
        unknown_increments
            For each BSSE treatment and order that misses something: how many of its fragment sets have an unknown
            increment, and the first 100 of them.
        properties
            The named sums that are exact: of those that results count in, the ones that miss none.
        estimates
            What is known of each of the others.
    """
    properties: dict[str, Any] = {}
    estimates: dict[str, Any] = {}
    fragments = Fragments(plan.spec.molecule)
    for name in ["energy", *sums.arrays, *plan.properties]:
        number = name in sums.fixed and sums.fixed[name].ndim == 1
        orders = {
            bsse: [
                _order(term, fragments, number=number)
                for term in _terms(plan, sums, name if number else "energy", bsse)
            ]
            for bsse in treatments(plan)
        }
        for key, which in _named(plan, sums, name).items():
            if _counts_missing(plan, sums, which):
                estimates[key] = _estimate(orders[which.bsse], which)
            elif _counts_done(plan, sums, which):
                properties[key] = np.asarray(sums.through(name, which)).tolist()
    return {
        "not_run": _not_run(plan, sums),
        "unknown_increments": _unknown(plan, sums),
        "properties": properties,
        "estimates": estimates,
    }


def _not_run(plan: Plan, sums: Sums) -> dict[str, Any]:
    places = [place for place in np.flatnonzero(sums.missing).tolist() if place not in sums.errors]
    return {"count": len(places), "labels": [plan[place].label for place in places[:_LISTED]]}


def _unknown(plan: Plan, sums: Sums) -> list[dict[str, Any]]:
    """Each order of each treatment that has unknown increments."""
    terms = [term for bsse in treatments(plan) for term in _terms(plan, sums, "energy", bsse) if term.unknown.any()]
    return [
        {
            "bsse_type": term.row.bsse,
            "nbody": term.row.nbody,
            "model_chemistry": term.row.mc,
            "supersystem": term.row.supersystem,
            "count": int(term.unknown.sum()),
            "of": len(term.sets),
            "fragments": term.sets[term.unknown][:_LISTED].tolist(),
        }
        for term in terms
    ]


def _named(plan: Plan, sums: Sums, name: str) -> dict[str, NamedSum]:
    """All named sums of a property that a complete run gives."""
    driven = name == "energy" or name in sums.arrays
    found = {f"return_{name}": returned_sum(plan)} if driven else {}
    for bsse in treatments(plan):
        found |= named_sums(plan, name, bsse, totals=_has_totals(plan, sums, name, bsse))
    return found


def _has_totals(plan: Plan, sums: Sums, name: str, bsse: str) -> bool:
    """Whether monomers are computed and, as far as is known, not all zero."""
    monomers = NamedSum(bsse, 1)
    computed = plan.expansion.total(bsse, 1) != 0
    nothing_known = not (computed & sums.done).any()
    return bool(computed.any() and (nothing_known or np.count_nonzero(sums.through(name, monomers))))


def _counts_missing(plan: Plan, sums: Sums, which: NamedSum) -> bool:
    return bool(plan.expansion.total(which.bsse, which.through, which.start)[~sums.done].any())


def _counts_done(plan: Plan, sums: Sums, which: NamedSum) -> bool:
    """Whether a result counts in the sum: one of nothing, the interaction within one body, is no finding."""
    return bool(plan.expansion.total(which.bsse, which.through, which.start)[sums.done].any())


@frozen(eq=False)
class _Term:
    """One order of an expansion, parted by fragment set.

    Attributes
    ----------
    row
        Which contribution it is.
    sets : (m, n) int array
        1-based fragment numbers.
    values : (m,) float array
        The increment of each set, NaN where it is unknown.
    """

    row: Contribution
    sets: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which increments are unknown, (m,)."""
        return np.isnan(self.values)


def _terms(plan: Plan, sums: Sums, name: str, bsse: str) -> list[_Term]:
    """The orders that are computed in a treatment; what the whole cluster alone adds is one increment."""
    expansion = plan.expansion
    found = sums.increments(bsse, name)
    whole_only = plan.spec.specification.keywords.supersystem_ie_only
    terms = []
    for row, counts in zip(expansion.rows, expansion.coefficients.T, strict=True):
        if row.bsse != bsse or not counts.any():
            continue
        if row.supersystem or (whole_only and row.nbody > 1):
            missing = counts[~sums.done].any()
            sets = expansion.sets.by_size[row.nbody]
            values = np.array([math.nan if missing else sums.through(name, NamedSum(bsse, row.nbody, row.nbody))])
        else:
            sets = expansion.sets.contributing(row.nbody)
            values = found.get(row.nbody, np.full(len(sets), math.nan))
        terms.append(_Term(row, sets, values))
    return terms


@frozen
class _Order:
    """What is known of one order.

    Attributes
    ----------
    nbody
        Which it is.
    known, unknown
        How many of the increments are and are not.
    total
        The known ones added up; None where that says nothing of the order.
    bound
        What the unknown ones add up to at most, if they can be compared.
    reason
        Why there is no bound.
    """

    nbody: int
    known: int
    unknown: int
    total: float | None = None
    bound: float | None = None
    reason: str | None = None


def _order(term: _Term, fragments: Fragments, *, number: bool) -> _Order:
    known, unknown = int((~term.unknown).sum()), int(term.unknown.sum())
    counts = (term.row.nbody, known, unknown)
    if unknown and not number:
        return _Order(*counts, reason="No estimate is made of gradients, Hessians and moments.")
    if unknown and term.row.nbody == 1:
        return _Order(*counts, reason="Nothing tells how large the energies of unknown monomers are: no bound.")
    if unknown and len(term.sets) == 1:
        return _Order(*counts, reason="Nothing compares with what the whole cluster adds: no bound.")
    total = math.fsum(term.values[~term.unknown].tolist()) if known else None
    bounds = _bounds(term, fragments) if unknown else np.zeros(1)
    if np.isnan(bounds).any():
        return _Order(*counts, total, reason=_nothing_as_close(term.sets[term.unknown][np.isnan(bounds)]))
    return _Order(*counts, total, bound=math.fsum(bounds.tolist()))


def _nothing_as_close(lost: NDArray[np.int64]) -> str:
    others = (
        f" or as {len(lost) - 1} others" if len(lost) > 2 else f" or as {lost[1].tolist()}" if len(lost) > 1 else ""
    )
    return (
        f"Fewer than {_FEWEST} sets of the same kinds of fragments that are known are as close together as "
        f"{lost[0].tolist()}{others}: no bound."
    )


def _bounds(term: _Term, fragments: Fragments) -> NDArray[np.float64]:
    """Of each unknown increment, by the known ones of alike sets no farther apart; NaN where there are too few."""
    apart, kinds, unknown = fragments.apart(term.sets), fragments.kinds(term.sets), term.unknown
    found = np.full(len(apart), np.nan)
    for kind in np.unique(kinds[unknown]):
        wanted, known = (np.flatnonzero((kinds == kind) & which) for which in (unknown, ~unknown))
        known = known[np.argsort(apart[known])]
        largest = np.append(np.nan, np.maximum.accumulate(np.abs(term.values[known])))
        largest[:_FEWEST] = np.nan
        found[wanted] = largest[np.searchsorted(apart[known], apart[wanted], side="right")]
    return _MARGIN * found[unknown]


def _estimate(orders: Sequence[_Order], which: NamedSum) -> dict[str, Any]:
    """What is known of a sum that misses something; an estimate if something is known of each of its orders."""
    chosen = [order for order in orders if which.start <= order.nbody <= which.through]
    totals = [order.total for order in chosen if order.total is not None]
    bounds = [order.bound for order in chosen if order.bound is not None]
    return {
        "estimate": math.fsum(totals) if len(totals) == len(chosen) else None,
        "bound": math.fsum(bounds) if len(bounds) == len(chosen) else None,
        "reason": next((order.reason for order in chosen if order.reason), None),
        "unknown": sum(order.unknown for order in chosen),
        "of": sum(order.known + order.unknown for order in chosen),
    }
