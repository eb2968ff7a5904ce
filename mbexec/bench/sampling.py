"""Some of a job's fragments that stand for all of them, and the whole job's time by what they took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from mbexec.core.cost import costs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mbexec.core.types import Plan

__all__ = ["Strata", "Timing"]

_ALIKE = 1.3  # costs within this factor are taken for the same

Timing = Mapping[int, tuple[int, float]]
"""Of a stratum: how many of its fragments ran, and the sum of their wall times, s."""


@frozen(eq=False)
class Strata:
    """A job's fragments, but for duplicates, in groups of one model chemistry and of about the same expected cost.

    Attributes
    ----------
    of : (ntask,) int array
        Each fragment's stratum, by its place in the plan; -1 for duplicates.
    mc : (nstrata,) int array
        Place of the model chemistry.
    cost : (nstrata,) float array
        Mean expected cost; it compares within a model chemistry.
    """

    of: NDArray[np.int64]
    mc: NDArray[np.int64]
    cost: NDArray[np.float64]

    @classmethod
    def of_plan(cls, plan: Plan) -> Strata:
        """The strata of a plan, by model chemistry and then by cost."""
        runs = plan.runs
        expected = costs(plan)[runs]
        steps = np.round(np.log(np.maximum(expected, 1e-300)) / math.log(_ALIKE))
        kinds, of = np.unique(np.stack([plan.expansion.mc[runs], steps], axis=1), axis=0, return_inverse=True)
        of = of.reshape(-1)
        mean = np.bincount(of, weights=expected) / np.bincount(of)
        everywhere = np.full(len(plan), -1)
        everywhere[runs] = of
        return cls(everywhere, kinds[:, 0].astype(np.int64), mean)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many fragments each stratum has."""
        return np.bincount(self.of[self.of >= 0], minlength=len(self.mc))

    def first(self) -> NDArray[np.int64]:
        """Places of one fragment of each stratum, the cheapest of each model chemistry first."""
        return np.array([np.flatnonzero(self.of == stratum)[0] for stratum in np.argsort(self.cost, kind="stable")])

    def cheapest(self, number: int) -> NDArray[np.int64]:
        """Places of so many fragments, or fewer, of the cheapest stratum of each model chemistry."""
        strata = [np.flatnonzero(self.mc == mc)[0] for mc in np.unique(self.mc)]
        return np.concatenate([np.flatnonzero(self.of == stratum)[:number] for stratum in strata])

    def sample(self, number: int, leave_out: frozenset[int] = frozenset()) -> NDArray[np.int64]:
        """Places of about so many fragments, in the plan's order.

        From each stratum as large a part as of all, but one at least, evenly spread over it; none from those that are
        left out.
        """
        counts = self.counts
        kept = [stratum for stratum in range(len(counts)) if stratum not in leave_out]
        share = number / sum(counts[stratum] for stratum in kept)
        found = []
        for stratum in kept:
            members = np.flatnonzero(self.of == stratum)
            wanted = min(len(members), max(1, round(share * len(members))))
            found.append(members[np.linspace(0, len(members) - 1, wanted).round().astype(np.int64)])
        return np.sort(np.concatenate(found))

    def times(self, timing: Timing) -> NDArray[np.float64]:
        """Wall time of a fragment of each stratum, (nstrata,), s.

        That of strata of which nothing ran follows from the costliest of the same model chemistry that did, or else of
        any, by cost.
        """
        found = np.full(len(self.mc), np.nan)
        for stratum, (number, seconds) in timing.items():
            found[stratum] = seconds / number
        known = np.flatnonzero(~np.isnan(found)).tolist()
        for stratum in np.flatnonzero(np.isnan(found)).tolist():
            same = [other for other in known if self.mc[other] == self.mc[stratum]] or known
            base = max(same, key=lambda other: self.cost[other])
            found[stratum] = found[base] * self.cost[stratum] / self.cost[base]
        return found
