"""Screening by energy: what a cheap program's increments say which sets of fragments the others have to compute.

The increment of a set is what it adds beyond its subsets. A set is kept if its increment by the cheap program, each
fragment in its own basis, is as large as the threshold of its order or unknown, or if it is part of a set that is kept.
What is kept is closed under subsets, so the coefficients of any expansion over it follow as always; the increments
that are dropped may be counted as the cheap program gives them, which takes coefficients too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import Expansion, FragmentSets, InputError, Plan, exact_dot, expand
from mbexec.plugins.manybody.extras import Screen, energy_screen
from mbexec.plugins.manybody.planning import expanded

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["Choice", "choose", "screened"]


@frozen(eq=False)
class Choice:
    """What the cheap program's energies have decided.

    Attributes
    ----------
    plan
        The plan with the coefficients that follow.
    needless : (ntask,) bool array
        Which of its tasks need not run.
    screen
        What the input says of it.
    dropped
        Which of the contributing sets of ``plan.expansion.sets`` are dropped, by order.
    summary
        For people, in plain JSON types: what became of each order, and what is dropped of it adds up to.
    """

    plan: Plan
    needless: NDArray[np.bool_]
    screen: Screen
    dropped: dict[int, NDArray[np.bool_]]
    summary: dict[str, Any]

    def fill_in(
        self, increments: dict[int, NDArray[np.float64]], values: NDArray[np.float64], *, counted: bool
    ) -> None:
        """Put in what the cheap program says of dropped sets, or what counts in their place.

        Parameters
        ----------
        increments
            By order; those of the dropped sets are replaced.
        values : (ntask,) float array
            Each task's value of the property that they are of.
        counted
            Which of the two.
        """
        for nbody in increments.keys() & self.dropped.keys():
            out = self.dropped[nbody]
            added = self.plan.expansion.increments_of("nocp", nbody, self.screen.program, values)
            increments[nbody][out] = 0.0 if counted and self.screen.dropped == "ignore" else added[out]


def screened(plan: Plan) -> Plan:
    """The plan with the cheap program's calculations, if its input asks for them, and with what they decide."""
    screen = energy_screen(plan.spec)
    if screen is None:
        return plan
    _check(plan.spec, plan.expansion, screen)
    sets, lowest, highest = plan.expansion.sets, min(screen.thresholds), max(screen.thresholds)
    cheap = _expansion_by(screen.program, highest, sets)
    everything = plan.expansion.joined(cheap)
    for mc in dict.fromkeys(row.mc for row in plan.expansion.rows if row.supersystem):
        # sets whose coefficients cancel now may count when others are dropped
        everything = everything.joined(_expansion_by(mc, highest, sets))
    undecided = np.ones(len(everything), dtype=bool)
    for decided in (cheap, expanded(plan.spec, sets.only(sets.sizes < lowest))):
        undecided[everything.places(decided)] = False
    return attrs.evolve(plan, expansion=everything, undecided=undecided)


def choose(plan: Plan, energies: NDArray[np.float64]) -> Choice | None:
    """What follows from the energies of the tasks that are not undecided; None where nothing is screened.

    Parameters
    ----------
    plan
        What :func:`screened` made.
    energies : (ntask,) float array, E_h
        NaN where there is none.
    """
    screen = energy_screen(plan.spec)
    if screen is None:
        return None
    found = plan.expansion
    sets = found.sets
    added = {nbody: found.increments_of("nocp", nbody, screen.program, energies) for nbody in screen.thresholds}
    keep = _closed(sets, {n: ~(np.abs(added[n]) < least) for n, least in screen.thresholds.items()})
    kept = sets.only(keep)
    dear = expanded(plan.spec, kept)
    places = found.places(dear)
    needless = plan.undecided.copy()
    needless[places] = False
    coefficients = np.zeros_like(found.coefficients)
    coefficients[places] = dear.coefficients
    counts = _counts_of_dropped(found, screen, kept)
    if screen.dropped == "cheap":
        for row, contribution in enumerate(found.rows):
            coefficients[:, row] += counts.get(contribution.nbody, 0)
    sums = {nbody: exact_dot(each, energies) for nbody, each in counts.items()}
    dropped = {n: ~keep[sets.members(n)][: len(values)] for n, values in added.items()}
    return Choice(
        attrs.evolve(plan, expansion=attrs.evolve(found, coefficients=coefficients)),
        needless,
        screen,
        dropped,
        {
            "program": screen.program,
            "dropped": screen.dropped,
            "orders": [_order(n, screen.thresholds[n], added[n], dropped[n], sums[n]) for n in added],
        },
    )


def _expansion_by(mc: str, highest: int, sets: FragmentSets) -> Expansion:
    """All calculations of one model chemistry, each fragment in its own basis."""
    levels: dict[int | str, str] = dict.fromkeys(range(1, highest + 1), mc)
    return expand(sets, bsse_type=["nocp"], levels=levels, return_total_data=True)


def _closed(sets: FragmentSets, kept: dict[int, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which sets are kept, (nset,): besides those given, by size, all of their subsets and all of other sizes."""
    keep = np.ones(len(sets), dtype=bool)
    for size, chosen in kept.items():
        keep[sets.members(size)[: len(chosen)]] = chosen
    for size in sorted(kept, reverse=True):
        whole = sets.by_size[size][: len(kept[size])][keep[sets.members(size)][: len(kept[size])]]
        for columns in combinations(range(size), size - 1):
            keep[sets.index(whole[:, list(columns)])] = True
    return keep


def _counts_of_dropped(found: Expansion, screen: Screen, kept: FragmentSets) -> dict[int, NDArray[np.int64]]:
    """How often each task counts in the cheap program's increments of all sets but those kept, by order, (ntask,)."""
    counts = {nbody: np.zeros(len(found), dtype=np.int64) for nbody in screen.thresholds}
    for sign, sets in ((1, found.sets), (-1, kept)):
        cheap = _expansion_by(screen.program, max(screen.thresholds), sets)
        places = found.places(cheap)
        for nbody, each in counts.items():
            each[places] += sign * cheap.coefficients[:, nbody - 1]
    return counts


def _order(
    nbody: int, threshold: float, values: NDArray[np.float64], dropped: NDArray[np.bool_], total: float
) -> dict[str, Any]:
    """What became of the sets of one order."""
    lost = values[dropped].tolist()
    return {
        "nbody": nbody,
        "threshold": threshold,
        "candidates": len(values),
        "unknown": int(np.isnan(values).sum()),
        "dropped": len(lost),
        "dropped_sum": total,
        "dropped_largest": max(map(abs, lost), default=0.0),
    }


def _check(spec: ManyBodyInput, dear: Expansion, screen: Screen) -> None:
    """Refuse what can't be screened.

    Raises
    ------
    InputError
        Names the key, what is given, and what to do.
    """
    known = spec.specification.specification
    if screen.program not in known:
        raise InputError(
            f"mbe.screen.program = {screen.program!r} has no specification. Known: {', '.join(sorted(known))}."
        )
    if spec.specification.keywords.supersystem_ie_only:
        raise InputError("supersystem_ie_only leaves nothing to screen; leave it or mbe.screen out.")
    levels = {row.nbody: row.mc for row in dear.rows if not row.supersystem}
    _check_orders(sorted(screen.thresholds), max(levels))
    if same := [nbody for nbody in screen.thresholds if levels[nbody] == screen.program]:
        raise InputError(
            f"mbe.screen.program = {screen.program!r} is what computes the {same[0]}-body sets anyway; "
            "name a cheaper one that says which of them are worth it."
        )
    if screen.dropped == "cheap" and dear.has_supersystem:
        raise InputError(
            'mbe.screen.dropped = "cheap" would count twice what the supersystem adds for all that is left out; '
            'set mbe.screen.dropped to "ignore".'
        )


def _check_orders(orders: Sequence[int], highest: int) -> None:
    told = ", ".join(map(str, orders))
    if highest < 2:
        raise InputError("There is nothing to screen where the expansion ends at 1; leave mbe.screen out.")
    if orders[0] < 2 or orders[-1] > highest:
        raise InputError(
            f"mbe.screen.thresholds is for {told} fragments; allowed are 2 to {highest}, where the expansion ends."
        )
    if orders != list(range(orders[0], highest + 1)):
        missing = next(n for n in range(orders[0], highest + 1) if n not in orders)
        raise InputError(
            f"mbe.screen.thresholds is for {told} fragments, but all sets of {missing} would be computed, and with "
            f"them all their subsets; give one for each order from {orders[0]} to {highest}, where the expansion ends."
        )
