"""How much of a run is done and how long the rest takes: what was expected, corrected by what has been measured."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import Plan

__all__ = ["Estimate", "Outlook"]

Array = NDArray[np.float64]

_POWER = 0.8  # of small fragments, which have not reached the formal scaling of their method
_PRIOR = 1.0  # how much the logarithms of costs must spread, summed, for the power to go halfway to what is measured
_STEEPEST = 2.0


@frozen
class Outlook:
    """How far a run is.

    Attributes
    ----------
    share
        Of all the time that fragments take, that of those that are done.
    shares
        The same by nbody.
    left
        Seconds until the last fragment ends; None as long as nothing has been measured.
    """

    share: float
    shares: Mapping[int, float]
    left: float | None


class Estimate:
    """Expects times of fragments from their costs and from the times of those that ran.

    Fragments make classes by model chemistry and nbody. Within a model chemistry a fragment of cost c is expected to
    take f c^p seconds.

    - The power p is that of the line through the logarithms of measured times and costs of the model chemistry, all
      its nbody together. It is drawn towards 0.8 as long as the measured costs hardly differ: 1 would be the formal
      scaling of the method, which small fragments do not reach.
    - The factor f of a class is measured seconds per unit of c^p: the fragments of it that ran would have taken as long
      in all as they did. A class of which none ran has that of its model chemistry; a model chemistry of which none
      ran has power and factor of all that ran.

    The first fragment of each worker, which may have had a program to load, is left out where there are others. Those
    that a store gave count as done and were not measured. What is left, the fragments that run less what they
    have run already, is divided by how many ran at once so far on average: the workers, if these are kept busy. That
    is how what is lost between fragments comes in. No less is left than the longest fragment still takes.

    Parameters
    ----------
    plan
        What is computed.
    costs : (ntask,) float array
        Expected costs, in units that compare within a model chemistry.
    workers
        How many fragments may run at once.
    """

    def __init__(self, plan: Plan, costs: Array, workers: int) -> None:
        expansion = plan.expansion
        run = np.flatnonzero(plan.runs)
        mc, nbody, costs = expansion.mc[run], expansion.nbody[run], costs[run]
        order = np.lexsort((costs, nbody, mc))
        rows = np.stack([mc[order], nbody[order], costs[order]])
        first = np.concatenate([[True], (rows[:, 1:] != rows[:, :-1]).any(axis=0)])[: len(order)]
        kind = np.cumsum(first) - 1
        kinds = np.full(len(plan), -1)  # of what does not run
        kinds[run[order]] = kind
        self._kind = kinds.tolist()
        mcs, self._nbody, self._cost = rows[:, first]
        self._mc = mcs.astype(np.int64)
        classes = np.unique(np.stack([mcs, self._nbody]), axis=1, return_inverse=True)[1]
        self._class = np.asarray(classes).reshape(-1)
        self._total = np.bincount(kind, minlength=int(first.sum()))
        self._workers = workers
        self._done = array("q", bytes(8 * len(self._total)))
        empty = bytes(8 * len(self._total))
        self._first, self._further = (array("q", empty), array("d", empty)), (array("q", empty), array("d", empty))
        self._workers_seen: set[str] = set()
        self._busy = 0.0
        self._since = math.inf
        self._latest: Array | None = None

    def reused(self, index: int) -> None:
        """A store gave the result of a task."""
        self._done[self._kind[index]] += 1

    def left_out(self, indices: NDArray[np.int64]) -> None:
        """Tasks that need not run after all."""
        self._total = self._total - np.bincount(np.array(self._kind)[indices], minlength=len(self._total))

    def began(self, time: float) -> None:
        """A fragment began, seconds since the epoch."""
        if time < self._since:
            self._since = time

    def ran(self, index: int, worker: str, started: float, ended: float) -> None:
        """A task ran, where and from when to when in seconds since the epoch, and is done."""
        kind = self._kind[index]
        if worker in self._workers_seen:
            ran, seconds = self._further
        else:
            ran, seconds = self._first
            self._workers_seen.add(worker)
        self._done[kind] += 1
        ran[kind] += 1
        seconds[kind] += ended - started
        self.tried(started, ended)

    def tried(self, started: float, ended: float) -> None:
        """A fragment ran and is not done."""
        self._busy += ended - started
        self.began(started)

    def expected(self, index: int) -> float | None:
        """Seconds that a task takes, as the last outlook had it; None if nothing had been measured then."""
        return None if self._latest is None else float(self._latest[self._kind[index]])

    def outlook(self, now: float, running: Mapping[int, float]) -> Outlook:
        """How far the run is at a time, while tasks run that began at others, all in seconds since the epoch."""
        measured = self._latest = self._times()
        times = self._cost if measured is None else measured
        done = np.array(self._done)
        share = _share(times * done, times * self._total)
        shares = {
            int(nbody): _share((times * done)[mine], (times * self._total)[mine])
            for nbody in np.unique(self._nbody)
            for mine in [self._nbody == nbody]
        }
        left = None if measured is None else self._left(measured, self._total - done, now, running)
        return Outlook(share, shares, left)

    def _left(self, times: Array, to_do: NDArray[np.int64], now: float, running: Mapping[int, float]) -> float:
        if not to_do.any():
            return 0.0
        kinds = np.array([self._kind[index] for index in running], dtype=np.int64)
        ages = np.maximum(now - np.array(list(running.values()), dtype=float), 0.0)
        rests = np.maximum(times[kinds] - ages, 0.0)
        waiting = to_do - np.bincount(kinds, minlength=len(to_do))
        work = float((waiting * times).sum() + rests.sum())
        longest = max(rests.max(initial=0.0), times[waiting > 0].max(initial=0.0))
        at_once = (self._busy + ages.sum()) / max(now - self._since, 1e-9)
        return float(max(work / min(max(at_once, 1e-3), self._workers), longest))

    def _times(self) -> Array | None:
        """Seconds that a fragment of each kind takes; None as long as nothing has been measured."""
        ran, seconds = map(np.array, self._further if any(self._further[1]) else self._first)
        if not seconds.any():
            return None
        everything = np.zeros_like(self._mc)
        times = self._scaled(ran, seconds, everything, everything)
        of_their_own = self._scaled(ran, seconds, self._mc, self._class)
        return np.where(np.isnan(of_their_own), times, of_their_own)

    def _scaled(
        self, ran: NDArray[np.int64], seconds: Array, scale: NDArray[np.int64], factor: NDArray[np.int64]
    ) -> Array:
        """Times, by a power for each group of `scale` and a factor for each of `factor`; NaN where nothing ran."""
        size = self._cost ** _powers(np.log(self._cost), ran, seconds, scale)[scale]
        found = _factors(seconds, ran * size, factor)[factor]
        times: Array = size * np.where(np.isnan(found), _factors(seconds, ran * size, scale)[scale], found)
        return times


def _share(done: Array, total: Array) -> float:
    return float(done.sum() / total.sum()) if total.any() else 1.0


def _factors(seconds: Array, sizes: Array, group: NDArray[np.int64]) -> Array:
    """Seconds for each unit, by group; NaN where nothing was measured."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(group, seconds) / np.bincount(group, sizes)


def _powers(cost: Array, ran: NDArray[np.int64], seconds: Array, group: NDArray[np.int64]) -> Array:
    """Slope of the logarithm of mean times over that of `cost`, by group; 1 where there is nothing to tell."""
    weight = np.where(seconds > 0, ran, 0)
    time = np.log(np.where(weight, seconds, 1.0) / np.maximum(ran, 1))
    count = np.maximum(np.bincount(group, weight), 1)
    x = cost - (np.bincount(group, weight * cost) / count)[group]
    y = time - (np.bincount(group, weight * time) / count)[group]
    slope = (np.bincount(group, weight * x * y) + _PRIOR * _POWER) / (np.bincount(group, weight * x * x) + _PRIOR)
    return np.clip(slope, 0.0, _STEEPEST)
