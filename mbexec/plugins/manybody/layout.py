"""Where the numbers of fragments go in arrays of the cluster's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from operator import attrgetter, is_
from typing import cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import FragmentSets, Plan

__all__ = ["Layout", "stacked"]

_FLOAT = np.dtype(np.float64)
_OBJECT = 50  # what an object takes beside its arrays, in numbers


@frozen(eq=False)
class Layout:
    """The coordinates of each fragment of a cluster, in the order of its atoms.

    Attributes
    ----------
    sets, bas
        The plan's.
    coordinates : (3 nat,) int array
        Those of the first fragment, then those of the second, and so on.
    starts, counts : (nfr,) int arrays
        Where those of each fragment begin, and how many they are.
    """

    sets: FragmentSets
    bas: NDArray[np.int64]
    coordinates: NDArray[np.intp]
    starts: NDArray[np.intp]
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, plan: Plan) -> Layout:
        """That of a plan's molecule."""
        fragments = plan.spec.molecule.fragments
        atoms = np.concatenate([np.asarray(fragment, dtype=np.intp) for fragment in fragments])
        counts = 3 * np.array([len(fragment) for fragment in fragments], dtype=np.intp)
        coordinates = (3 * atoms[:, None] + np.arange(3)).ravel()
        return cls(plan.expansion.sets, plan.expansion.bas, coordinates, np.cumsum(counts) - counts, counts)

    def numbers(self, names: Sequence[str]) -> NDArray[np.int64]:
        """About how many numbers each task's result holds, (ntask,): the arrays of these names, and the object."""
        widths = np.zeros(len(self.sets), dtype=np.int64)
        for size, sets in self.sets.by_size.items():
            widths[self.sets.members(size)] = self.counts[sets - 1].sum(axis=1)
        found = np.full(len(widths), _OBJECT)
        for name in names:
            found += widths if name == "gradient" else widths**2
        return found[self.bas]

    def blocks(self, tasks: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Tasks with equally many coordinates: places in `tasks`, (m,), and their coordinates, (m, ncoordinate)."""
        for places, sets in self.sets.parted(self.bas[tasks]):
            if (sets == sets[0]).all():
                yield places, _alike(self._of(sets[:1]).reshape(1, -1), len(sets))
                continue
            if self._is_even:
                yield places, self._of(sets).reshape(len(sets), -1)
                continue
            widths = self.counts[sets - 1].sum(axis=1)
            for width in np.unique(widths):
                same = widths == width
                yield places[same], self._of(sets[same]).reshape(-1, width)

    @property
    def _is_even(self) -> bool:
        """Whether all fragments have as many coordinates."""
        return bool((self.counts == self.counts[0]).all())

    def _of(self, sets: NDArray[np.int64]) -> NDArray[np.intp]:
        if self._is_even:
            found: NDArray[np.intp] = self.coordinates.reshape(-1, self.counts[0]).take(sets - 1, axis=0)
            return found
        each = self.counts[sets - 1].ravel()
        ends = np.cumsum(each)
        places = np.repeat(self.starts[sets - 1].ravel() - ends + each, each) + np.arange(ends[-1])
        chosen: NDArray[np.intp] = self.coordinates[places]
        return chosen

    def places(self, name: str, coordinates: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where in a gradient or Hessian, counted in one row, the numbers of tasks with these coordinates go."""
        if name == "gradient":
            return coordinates
        if coordinates.strides[0] == 0:
            return _alike(self.places(name, coordinates[0][None].copy()), len(coordinates))
        rows: NDArray[np.intp] = len(self.coordinates) * coordinates[:, :, None]
        return rows + coordinates[:, None, :]


def _alike(one: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """As many of it, without a copy: of all calculations in the basis of the whole cluster, say."""
    return np.broadcast_to(one, (count, *one.shape[1:]))


def stacked(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Arrays of one shape as one, (n, ...). To join their bytes takes a fraction of the time of np.stack."""
    if all(map(is_, map(attrgetter("dtype"), arrays), repeat(_FLOAT))):
        with suppress(TypeError):  # one of them is not contiguous
            return np.frombuffer(b"".join(cast(Sequence[bytes], arrays))).reshape(len(arrays), *arrays[0].shape)
    return np.stack(arrays).astype(np.float64)
