"""How large what a cutoff leaves out may be, by how increments decay with distance.

An increment is what a fragment set adds beyond its subsets. The distance r of a set is the greatest one between two
of its fragments' centres of mass. In each order, of the increments of sets of the same kinds of fragments, those
beyond half the greatest distance are put into bins of equal numbers, those of one distance together, and a power law
A r^-p is laid through the bins' root mean squares: p by least squares, but no less than electrostatics and no more
than dispersion have it, A so that no bin lies above it. It is then summed over all sets that were left out: as it is,
which is a bound in so far as the decay goes on like that; and its squares, for signs that are random.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import FragmentSets, Plan
from mbexec.plugins.manybody.apart import Fragments
from mbexec.plugins.manybody.near import centers_of_mass
from mbexec.plugins.manybody.screening import Choice

__all__ = ["in_words", "left_out"]

_FEWEST = 8  # increments to lay a power law through
_BINS = 6
_SLOWEST = {
    0: 3.0,
    1: 2.0,
}  # charged fragments to p: dipoles and dipoles, charges and dipoles; else charges and charges
_FASTEST = 6.0  # dispersion; what falls off faster, such as overlap, is followed by it
_RANGE = 1.3  # how far apart bins must be to tell a power: the farthest against the nearest
_DIGITS = 6  # of distances, a0: what differs by less is rounding
_ALL = 300_000  # sets, up to which all are looked at
_DRAWN = (200, 1000)  # else fragments, and sets drawn with each


def left_out(plan: Plan, energies: NDArray[np.float64], choice: Choice | None = None) -> list[dict[str, Any]]:
    """How many sets of each order have no increment of their own, and how large those may be.

    Parameters
    ----------
    plan
        What was computed.
    energies : (ntask,) float array, E_h
    choice
        What screening by energy has dropped of it, of which the cheap program's increments are taken.

    Returns
    -------
    list of dict
        For each BSSE treatment and order that leaves something out: bsse_type, nbody; left_out, of: how many sets of
        how many; bound, random: the absolute values and the root of the squares of what they may be, E_h, None where
        nothing is known of that; decay: the power of the distance, of the kind that decays the slowest; reason: why
        there is no bound.
    """
    expansion = plan.expansion
    found = []
    for bsse in dict.fromkeys(row.bsse for row in expansion.rows):
        wanted = {nbody: counts for nbody, counts in expansion.left_out.items() if counts[0]}
        increments = expansion.increments_by_order(bsse, energies) if wanted else {}
        if choice is not None:
            choice.fill_in(increments, energies, counted=False)
        for nbody, (left, of) in wanted.items():
            told = _tail(plan, nbody, increments.get(nbody))
            found.append({"bsse_type": bsse, "nbody": nbody, "left_out": left, "of": of, **told})
    return found


def in_words(found: list[dict[str, Any]]) -> str:
    """The same as text; empty if nothing is left out."""
    return "".join(
        f"   Left out, {each['bsse_type']}, {each['nbody']}-body: {each['left_out']:,} of {each['of']:,} sets, "
        + (
            each["reason"]
            or f"about {each['bound']:.1e} Eh if all had one sign, {each['random']:.1e} Eh if signs are random."
        )
        + "\n"
        for each in found
    )


@frozen
class _Decay:
    """The power law A r^-p."""

    amplitude: float
    power: float

    def __call__(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.amplitude * distances**-self.power


def _tail(plan: Plan, nbody: int, increments: NDArray[np.float64] | None) -> dict[str, Any]:
    """The estimate of one order."""
    fragments, centers = Fragments(plan.spec.molecule), centers_of_mass(plan.spec.molecule)
    kept = plan.expansion.sets.contributing(nbody)
    if increments is None or not len(kept):
        return _untold(f"No set of {nbody} fragments was computed: nothing tells how they decay.")
    sets, weights = _sampled(centers, nbody)
    left = ~plan.expansion.sets.holds(sets)
    sets, weights = sets[left], weights[left]
    kinds = fragments.kinds(np.concatenate([kept, sets]))
    far, near = _reach(centers, sets), _reach(centers, kept)
    sizes = np.empty(len(sets))
    decays = []
    for kind in np.unique(kinds[len(kept) :]):
        mine, others = kinds[: len(kept)] == kind, kinds[len(kept) :] == kind
        charged = int(np.count_nonzero(fragments.charges[sets[others][0] - 1]))
        decay = _decay(near[mine], increments[mine], _SLOWEST.get(charged, 1.0))
        if decay is None:
            return _untold(
                f"Fewer than {_FEWEST} sets of the same kinds of fragments as {sets[others][0].tolist()} were computed "
                "near the cutoff: nothing tells how they decay."
            )
        decays.append(decay.power)
        sizes[others] = decay(far[others])
    return {
        "bound": math.fsum((weights * sizes).tolist()),
        "random": math.sqrt(math.fsum((weights * sizes**2).tolist())),
        "decay": min(decays),
        "reason": None,
    }


def _untold(reason: str) -> dict[str, Any]:
    return {"bound": None, "random": None, "decay": None, "reason": reason}


def _decay(distances: NDArray[np.float64], increments: NDArray[np.float64], slowest: float) -> _Decay | None:
    """How increments decay; None if there are too few to tell."""
    outer = distances >= distances.max(initial=0.0) / 2
    order = np.argsort(distances[outer])
    if len(order) < _FEWEST:
        return None
    r, size = distances[outer][order], np.abs(increments[outer][order])
    bins = _parted(r, min(_BINS, 2 * len(r) // _FEWEST))
    middle = np.log([r[each].mean() for each in bins])
    height = np.log([max(math.sqrt((size[each] ** 2).mean()), 1e-300) for each in bins])
    spread = middle - middle.mean()
    known = np.ptp(middle) > math.log(_RANGE)
    power = min(max(-float(spread @ height / (spread @ spread)), slowest), _FASTEST) if known else slowest
    return _Decay(float(np.exp(height + power * middle).max()), power)


def _parted(r: NDArray[np.float64], count: int) -> list[NDArray[np.intp]]:
    """Places of rising distances in bins of equal numbers, or fewer: those of one distance are in one."""
    apart = r.round(_DIGITS)  # sets that share their farthest pair
    starts = [each[0] for each in np.array_split(np.arange(len(r)), count)]
    return np.split(np.arange(len(r)), np.unique(np.searchsorted(apart, apart[starts]))[1:])


def _reach(centers: NDArray[np.float64], sets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest distance between two centres of each set, a0, (m, n) to (m,)."""
    columns = sets.T - 1
    found = np.zeros(len(sets))
    for place, one in enumerate(columns):
        for other in columns[place + 1 :]:
            np.maximum(found, np.linalg.norm(centers[one] - centers[other], axis=1), out=found)
    return found


def _sampled(centers: NDArray[np.float64], nbody: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sets of n fragments, (m, n), and for how many each stands: all of them, or a sample where there are too many.

    A sample has fragments drawn at random, each with others that are drawn by the inverse cube of their distances.
    """
    nfr = len(centers)
    if math.comb(nfr, nbody) <= _ALL:
        sets = FragmentSets.full(nfr, nbody).by_size[nbody]
        return sets, np.ones(len(sets))
    rng = np.random.default_rng(1)
    drawn, weights = [], []
    for one in rng.permutation(nfr)[: _DRAWN[0]].tolist():
        distances = np.linalg.norm(centers - centers[one], axis=1)
        distances[one] = np.inf
        chance = np.maximum(distances, 1.0) ** -3.0
        chance /= chance.sum()
        others = rng.choice(nfr, (_DRAWN[1], nbody - 1), p=chance)
        drawn.append(np.column_stack([np.full(len(others), one), others]))
        weights.append(1 / chance[others].prod(axis=1))
    sets = np.sort(np.concatenate(drawn), axis=1) + 1
    each = nfr / (math.factorial(nbody) * len(sets))
    unlike = (np.diff(sets, axis=1) > 0).all(axis=1)
    return sets[unlike], each * np.concatenate(weights)[unlike]
