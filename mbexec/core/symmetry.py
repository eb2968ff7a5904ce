"""Fragment calculations that are the same up to a rigid motion: one of them runs, and stands for the others."""

from __future__ import annotations

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from mbexec.core.fragments import IntArray

__all__ = ["Symmetry"]


@frozen(eq=False)
class Symmetry:
    """Which calculation stands for which, and the motion that takes the one to the other.

    A motion is a rotation, perhaps with a reflection, and a translation; atoms of a kind may change places.

    Attributes
    ----------
    tolerance
        How far any atom may be from where the motion puts it, a0.
    representative : (ntask,) int array
        The task that stands for each: itself for those that run.
    rotations : (m, 3, 3) float array
        For each duplicate, that is each task that doesn't run, in rising order: the orthogonal matrix R of its motion.
        With x the places of the representative's atoms and y those of the duplicate's, ``y[i] = R @ x[source[i]] + t``.
    sources : (sum of nat,) int array
        The `source` of each duplicate, one after the other; atoms are counted as in the tasks' results.
    starts : (m + 1,) int array
        Where that of each begins in `sources`, and the end of the last.
    deviations : (m,) float array
        The greatest distance of an atom from where the motion puts it, a0.
    duplicates : (m,) int array
        The tasks that don't run.
    """

    tolerance: float
    representative: IntArray
    rotations: NDArray[np.float64]
    sources: NDArray[np.int32]
    starts: IntArray
    deviations: NDArray[np.float64]
    duplicates: IntArray = field(init=False)
    _by_representative: tuple[IntArray, IntArray] = field(init=False)

    @duplicates.default
    def _others(self) -> IntArray:
        return np.flatnonzero(~self.runs)

    @_by_representative.default
    def _sorted(self) -> tuple[IntArray, IntArray]:
        """Places among the duplicates in the order of what stands for them, and that."""
        standing = self.representative[self.duplicates]
        order = np.argsort(standing, kind="stable")
        return order, standing[order]

    @property
    def runs(self) -> NDArray[np.bool_]:
        """Which tasks run, (ntask,)."""
        found: NDArray[np.bool_] = self.representative == np.arange(len(self.representative))
        return found

    @property
    def deviation(self) -> float:
        """The greatest of all deviations, a0."""
        return float(self.deviations.max(initial=0.0))

    def places(self, index: int) -> IntArray:
        """Places among the duplicates of those that a task stands for, in rising order."""
        order, standing = self._by_representative
        first, last = np.searchsorted(standing, [index, index + 1])
        return order[first:last]

    def stood_for(self, index: int) -> IntArray:
        """The tasks that a task stands for, but for itself."""
        return self.duplicates[self.places(index)]

    def source(self, place: int) -> NDArray[np.int32]:
        """The atom of the representative that each atom of a duplicate stems from, (nat,)."""
        return self.sources[self.starts[place] : self.starts[place + 1]]
