"""Collections of fragment sets, as integer arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from mbexec.core.errors import InputError

__all__ = ["FragmentSets", "IntArray"]

IntArray = NDArray[np.int64]

_CANDIDATES = 5  # how many are looked at for each set that is linked, at most: in three dimensions it is about two


@frozen(eq=False)
class FragmentSets:
    """A collection of sets of fragments, ordered by size and then lexicographically.

    Attributes
    ----------
    nfr
        Number of fragments of the cluster.
    by_size : dict of (n_k, k) int arrays
        The sets of each size, one a row, 1-based fragment numbers in rising order. The set of all fragments is always
        among them: it serves as counterpoise basis and as supersystem.
    whole
        Whether the set of all fragments has a contribution of its own, as the sets of other sizes have.
    """

    nfr: int
    by_size: dict[int, IntArray]
    whole: bool = True
    _first: dict[int, int] = field(init=False)

    @_first.default
    def _count_up(self) -> dict[int, int]:
        starts = np.cumsum([0, *(len(sets) for sets in self.by_size.values())])
        return dict(zip(self.by_size, starts.tolist(), strict=False))

    @classmethod
    def full(cls, nfr: int, max_nbody: int) -> FragmentSets:
        """Every set of up to `max_nbody` of `nfr` fragments, and the set of all of them."""
        by_size = {1: np.arange(1, nfr + 1, dtype=np.int64)[:, None]}
        for size in range(2, max_nbody + 1):
            by_size[size] = _one_more(by_size[size - 1], nfr)
        return cls(nfr, _with_all(by_size, nfr), nfr in by_size)

    @classmethod
    def linked(cls, nfr: int, max_nbody: int, links: Mapping[int, IntArray], most: int = 2**62) -> FragmentSets:
        """The sets of up to `max_nbody` fragments that are linked pair by pair, and the set of all fragments.

        Parameters
        ----------
        nfr
            Number of fragments of the cluster.
        max_nbody
            Size of the largest sets.
        links : dict of (m, 2) int arrays
            By size, the pairs that sets of that size, and larger ones, may hold: so the collection is closed under
            subsets. A size that is left out adds no condition.
        most
            How many sets of a size there may be.

        Raises
        ------
        InputError
            If there are more.
        """
        by_size = {1: np.arange(1, nfr + 1, dtype=np.int64)[:, None]}
        linked: IntArray | None = None
        for size in range(2, max_nbody + 1):
            if size in links:
                keys = np.unique(np.sort(links[size], axis=1) @ np.array([nfr + 1, 1]))
                linked = keys if linked is None else np.intersect1d(linked, keys, assume_unique=True)
            sets = by_size[size - 1]
            by_size[size] = _one_more(sets, nfr) if linked is None else _one_more_linked(sets, linked, nfr, most)
        whole = len(by_size.get(nfr, ())) > 0
        return cls(nfr, _with_all(by_size, nfr), whole)

    @classmethod
    def closed(cls, nfr: int, sets: Iterable[Sequence[int]]) -> FragmentSets:
        """The given sets, and the set of all fragments.

        Raises
        ------
        InputError
            If a subset of one of the sets is missing, or a fragment number is not in 1..nfr.
        """
        unique = sorted({tuple(sorted(s)) for s in sets}, key=lambda s: (len(s), s))
        if bad := [s for s in unique if not s or s[0] < 1 or s[-1] > nfr or len(set(s)) < len(s)]:
            raise InputError(f"{bad[0]} is not a set of fragments; fragment numbers run from 1 to {nfr}.")
        by_size: dict[int, IntArray] = {}
        for size in dict.fromkeys(len(s) for s in unique):
            by_size[size] = np.array([s for s in unique if len(s) == size], dtype=np.int64)
        collection = cls(nfr, _with_all(by_size, nfr), nfr in by_size)
        for size in [k for k in by_size if 1 < k < nfr]:
            for columns in combinations(range(size), size - 1):
                collection.index(by_size[size][:, list(columns)])
        return collection

    def __len__(self) -> int:
        return sum(len(sets) for sets in self.by_size.values())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        for sets in self.by_size.values():
            yield from map(tuple, sets.tolist())

    def __getitem__(self, index: int) -> tuple[int, ...]:
        for sets in self.by_size.values():
            if index < len(sets):
                return tuple(sets[index].tolist())
            index -= len(sets)
        raise IndexError(index)

    def at(self, indices: IntArray) -> list[tuple[int, ...]]:
        """The sets of these indices, in far less time than one by one; those that are the same are one object."""
        unique, which = np.unique(indices, return_inverse=True)
        found: list[tuple[int, ...]] = []
        for _, sets in self.parted(unique):
            found += map(tuple, sets.tolist())
        return [found[place] for place in which.tolist()]

    def parted(self, indices: IntArray) -> Iterator[tuple[NDArray[np.intp], IntArray]]:
        """By size: the places in `indices` that hold sets of it, and those sets, (m, k)."""
        for size, first in self._first.items():
            sets = self.by_size[size]
            places = np.flatnonzero((indices >= first) & (indices < first + len(sets)))
            if len(places):
                yield places, sets[indices[places] - first]

    @property
    def sizes(self) -> IntArray:
        """Size of each set, (nset,)."""
        return np.repeat(list(self.by_size), [len(sets) for sets in self.by_size.values()]).astype(np.int64)

    @property
    def all_fragments(self) -> int:
        """Index of the set of all fragments."""
        return len(self) - 1

    def members(self, size: int) -> IntArray:
        """Indices of the sets of one size."""
        first = self._first[size]
        return np.arange(first, first + len(self.by_size[size]))

    def contributing(self, size: int) -> IntArray:
        """The sets of one size that have a contribution of their own, (m, size)."""
        sets = self.by_size[size]
        return sets if size < self.nfr or self.whole else sets[:0]

    def holds(self, sets: IntArray) -> NDArray[np.bool_]:
        """Which of the given sets contribute, (m, k) to (m,)."""
        return _among(self._keys(self.contributing(sets.shape[1])), self._keys(sets))

    def index(self, sets: IntArray) -> IntArray:
        """Indices of the given sets, (m, k) to (m,).

        Raises
        ------
        InputError
            If one of them is not in the collection.
        """
        size = sets.shape[1]
        known = self._keys(self.by_size.get(size, np.empty((0, size), dtype=np.int64)))
        wanted = self._keys(sets)
        found = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
        missing = np.ones(len(wanted), dtype=bool) if not len(known) else known[found] != wanted
        if missing.any():
            lost = tuple(sets[int(np.argmax(missing))].tolist())
            raise InputError(
                f"The fragment set {lost} is missing: a collection must hold every subset of its members; add it."
            )
        return found + self._first[size]

    def supersets(self, size: int, of_size: int) -> IntArray:
        """How many contributing sets of `size` contain each member of size `of_size`."""
        sets = self.contributing(size)
        if len(sets) == math.comb(self.nfr, size):
            count = math.comb(self.nfr - of_size, size - of_size)
            return np.full(len(self.by_size[of_size]), count, dtype=np.int64)
        counts = np.zeros(len(self.by_size[of_size]), dtype=np.int64)
        for columns in combinations(range(size), of_size) if len(sets) else ():
            held = self.index(sets[:, list(columns)]) - self._first[of_size]
            counts += np.bincount(held, minlength=len(counts))
        return counts

    def only(self, kept: NDArray[np.bool_]) -> FragmentSets:
        """The members for which it is true, (nset,), and the set of all fragments; a size without any stays, empty."""
        by_size = {size: sets[kept[self.members(size)]] for size, sets in self.by_size.items()}
        whole = self.whole and bool(kept[-1])
        return FragmentSets(self.nfr, {**by_size, self.nfr: self.by_size[self.nfr]}, whole)

    def lexicographic_rank(self) -> IntArray:
        """Place of each set among all of them, compared as tuples, (nset,)."""
        width = max((size for size in self.by_size if size < self.nfr), default=1)
        padded = np.zeros((len(self), width + 1), dtype=np.int64)
        padded[:, -1] = self.sizes
        for size, sets in self.by_size.items():
            padded[self.members(size), : min(size, width)] = sets[:, :width]
        rank = np.empty(len(self), dtype=np.int64)
        rank[np.lexsort(padded.T[::-1])] = np.arange(len(self))
        return rank

    def _keys(self, sets: IntArray) -> NDArray[Any]:
        """One number a set that sorts like the set; Python integers where 64 bits are too few."""
        base = self.nfr + 1
        fits = base ** sets.shape[1] < 2**63
        digits = sets if fits else sets.astype(object)
        keys = digits[:, 0]
        for column in digits.T[1:]:
            keys = keys * base + column
        return keys


def _one_more(sets: IntArray, nfr: int) -> IntArray:
    """The sets with one more, higher, fragment each, in lexicographic order."""
    more = nfr - sets[:, -1]
    starts = np.repeat(np.cumsum(more) - more, more)
    last = np.repeat(sets[:, -1], more) + 1 + np.arange(more.sum()) - starts
    return np.column_stack([np.repeat(sets, more, axis=0), last])


def _one_more_linked(sets: IntArray, linked: IntArray, nfr: int, most: int) -> IntArray:
    """The sets with one more, higher, fragment each, those of them whose pairs are all linked.

    `linked` are the pairs as numbers that sort like them: the first fragment times nfr + 1, plus the second.
    """
    base = nfr + 1
    first, second = linked // base, linked % base
    for a, b in combinations(range(sets.shape[1]), 2):
        sets = sets[_among(linked, sets[:, a] * base + sets[:, b])]
    starts = np.searchsorted(first, np.arange(nfr + 2))
    more = np.diff(starts)[sets[:, -1]]
    too_many = InputError(f"There are more than {most:,} sets of {sets.shape[1] + 1} fragments; lower the cutoffs.")
    if more.sum() > _CANDIDATES * most:
        raise too_many
    place = np.arange(more.sum()) + np.repeat(starts[sets[:, -1]] - np.cumsum(more) + more, more)
    row, last = np.repeat(np.arange(len(sets)), more), second[place]
    for column in sets.T[:-1]:
        kept = _among(linked, column[row] * base + last)
        row, last = row[kept], last[kept]
    if len(row) > most:
        raise too_many
    return np.column_stack([sets[row], last])


def _among(known: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the wanted numbers are known; those are sorted."""
    if not len(known):
        return np.zeros(len(wanted), dtype=bool)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted
    return found


def _with_all(by_size: dict[int, IntArray], nfr: int) -> dict[int, IntArray]:
    return {**by_size, nfr: np.arange(1, nfr + 1, dtype=np.int64)[None, :]}
