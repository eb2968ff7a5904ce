"""Which fragment calculations are the same up to a rigid motion.

Two calculations are the same if they have the same model chemistry, and a motion takes the atoms of one to those of
the other, none farther off than the tolerance: real atoms to real ones of the same element and mass, ghosts to ghosts,
and fragments to fragments of the same atoms, charge and multiplicity. A motion is a rotation, perhaps with a
reflection, and a translation.

Distances between atoms, sorted by kind of pair, tell calculations apart that are not the same: no motion within the
tolerance changes one of them by more than twice that. Those that they don't tell apart are superposed; nothing is taken
for the same without that. The first calculation in the plan stands for those that go onto it; of the rest the first
stands for those that go onto it, and so on. So each is within the tolerance of the one that stands for it, though two
that have the same one need not be within the tolerance of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from mbexec import Expansion, Symmetry
from mbexec.plugins.manybody.kinds import Cluster, alike
from mbexec.plugins.manybody.superpose import Molecules, Superposition, margin, superpose

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["find_symmetry"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FEW = 16  # atoms all of whose distances are looked at
_MOST = 64  # distances from the centre that are looked at
_AT_ONCE = 2_000_000  # distances that are worked on together


def find_symmetry(molecule: Molecule, expansion: Expansion, tolerance: float, *, fixed: bool = False) -> Symmetry:
    """Which calculation stands for which.

    Parameters
    ----------
    molecule
        The cluster.
    expansion
        The calculations.
    tolerance
        Greatest distance of an atom from where the motion puts it, a0.
    fixed
        Whether motions must leave the origin of the coordinates where it is: no translations.
    """
    cluster = Cluster.of(molecule, fixed)
    found = _Found(len(expansion))
    for tasks in alike(cluster, expansion):
        _Group.of(cluster, expansion, tasks).search(tolerance, found)
    return found.symmetry(tolerance)


@define(eq=False)
class _Found:
    """Duplicates as they are found, and what they are duplicates of."""

    size: int
    _rows: list[tuple[Ints, Ints, Floats, Ints, Floats]] = field(factory=list)

    def add(
        self, duplicates: Ints, representatives: Ints, rotations: Floats, sources: Ints, deviations: Floats
    ) -> None:
        """Note some, with what :class:`mbexec.Symmetry` has of each along the first axis."""
        self._rows.append((duplicates, representatives, rotations, sources, deviations))

    def symmetry(self, tolerance: float) -> Symmetry:
        """All of them, in the order of the plan."""
        duplicates, representatives, rotations, sources, deviations = (
            zip(*self._rows, strict=True) if self._rows else [()] * 5
        )
        places = _joined(duplicates).astype(np.int64)
        representative = np.arange(self.size)
        representative[places] = _joined(representatives)
        order = np.argsort(places)
        sizes = _joined([np.full(len(block), block.shape[1]) for block in sources]).astype(np.int64)
        starts = np.append(0, np.cumsum(sizes[order]))
        first = np.empty_like(order)
        first[order] = starts[:-1]
        flat = np.empty(starts[-1], dtype=np.int32)
        for block, begin in zip(sources, np.split(first, np.cumsum([len(block) for block in sources])), strict=False):
            flat[begin[:, None] + np.arange(block.shape[1])] = block
        return Symmetry(
            tolerance,
            representative,
            np.concatenate([np.empty((0, 3, 3)), *rotations])[order],
            flat,
            starts,
            _joined(deviations)[order],
        )


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0), *arrays])


@define(eq=False)
class _Group:
    """Tasks that differ in nothing but where their atoms are.

    Attributes
    ----------
    cluster
        Where they are cut from.
    tasks : (n,) int array
        Places in the plan, in rising order.
    frag, bas : (n, k) int arrays
        0-based numbers of their fragments.
    kinds : (nat,) int array
        Of the atoms, in rising order; the atoms of all tasks are put into that order here.
    """

    cluster: Cluster
    tasks: Ints
    frag: Ints
    bas: Ints
    kinds: Ints = field(init=False)

    @classmethod
    def of(cls, cluster: Cluster, expansion: Expansion, tasks: Ints) -> _Group:
        """That of some of an expansion's tasks."""
        sets = expansion.sets
        frag, bas = (_rows(sets.by_size, sets.sizes, which[tasks]) for which in (expansion.frag, expansion.bas))
        return cls(cluster, tasks, frag - 1, bas - 1)

    def __attrs_post_init__(self) -> None:
        self.kinds = self._sorted(np.arange(1))[2][0]

    def _sorted(self, which: Ints) -> tuple[Ints, Ints, Ints]:
        """Atoms of some tasks, their places in the tasks' results, and their kinds; (m, nat) each, by kind."""
        frag, bas = self.frag[which], self.bas[which]
        real = (bas[:, :, None] == frag[:, None]).any(axis=2).astype(np.int64)
        most = int((self.cluster.atoms[bas[0]] >= 0).sum(axis=1).max())
        atoms = self.cluster.atoms[:, :most][bas]
        kinds = np.where(atoms < 0, np.iinfo(np.int64).max, self.cluster.kinds[:, :, :most][real, bas])
        atoms, kinds = atoms.reshape(len(which), -1), kinds.reshape(len(which), -1)
        nat = int((atoms[0] >= 0).sum())
        order = np.argsort(kinds, axis=1, kind="stable")[:, :nat]
        inside = np.cumsum(atoms >= 0, axis=1) - 1
        rows = np.arange(len(which))[:, None]
        return atoms[rows, order], inside[rows, order], kinds[rows, order]

    def molecules(self, which: Ints) -> Molecules:
        """Some of the tasks, by place in the group."""
        atoms, _, _ = self._sorted(which)
        places = self.cluster.places[atoms]
        if not self.cluster.fixed:
            places = places - places.mean(axis=1, keepdims=True)
        return Molecules(places, self.cluster.owners[atoms])

    def search(self, tolerance: float, found: _Found) -> None:
        """Note which tasks are the same as others."""
        prints = self._fingerprints()
        width = margin(tolerance)
        label = _parted(prints, width)
        left = np.lexsort((self.tasks, label))
        while len(left := _together(left, label)):
            first = np.flatnonzero(np.append(True, np.diff(label[left]) != 0))
            leader = np.repeat(left[first], np.diff(np.append(first, len(left))))
            others, leader = np.delete(left, first), np.delete(leader, first)
            close = (np.abs(prints[others] - prints[leader]) <= width).all(axis=1)
            good = np.zeros(len(others), dtype=bool)
            good[close] = self._superposed(leader[close], others[close], tolerance, found)
            left = others[~good]

    def _superposed(self, leaders: Ints, others: Ints, tolerance: float, found: _Found) -> NDArray[np.bool_]:
        """Which of the others are the same as their leaders, noted."""
        good = np.zeros(len(others), dtype=bool)
        step = self._step
        for start in range(0, len(others), step):
            part = slice(start, start + step)
            one, two = leaders[part], others[part]
            onto = superpose(self.molecules(one), self.molecules(two), self.kinds, tolerance)
            same = np.isfinite(onto.deviations)
            good[part] = same
            self._note(one[same], two[same], onto, same, found)
        return good

    def _note(self, leaders: Ints, others: Ints, onto: Superposition, same: NDArray[np.bool_], found: _Found) -> None:
        if not len(others):
            return
        _, from_, _ = self._sorted(leaders)
        _, to, _ = self._sorted(others)
        rows = np.arange(len(others))[:, None]
        sources = np.empty_like(from_)
        sources[rows, to[rows, onto.orders[same]]] = from_
        found.add(self.tasks[others], self.tasks[leaders], onto.rotations[same], sources, onto.deviations[same])

    @property
    def _step(self) -> int:
        """How many tasks are worked on together."""
        widest = int(self.bas.shape[1]) * int(self.cluster.atoms.shape[1])
        return max(1, _AT_ONCE // max(len(self.kinds) ** 2, widest))

    def _fingerprints(self) -> Floats:
        """Numbers that no motion within the tolerance changes by more than twice that, (n, columns), a0."""
        step = self._step
        every = np.arange(len(self.tasks))
        return np.concatenate([self._distances(every[i : i + step]) for i in range(0, len(every), step)])

    def _distances(self, which: Ints) -> Floats:
        places, nat = self.molecules(which).places, len(self.kinds)
        real = np.flatnonzero(~np.isin(self.kinds, self.cluster.kinds[0]))
        few = np.arange(nat) if nat <= _FEW else real[: _FEW * (len(real) <= _FEW)]
        i, j = (few[ends] for ends in np.triu_indices(len(few), 1))
        between = np.sqrt(((places[:, i] - places[:, j]) ** 2).sum(axis=2))
        pairs = np.unique(self.kinds[i] * (self.kinds.max() + 1) + self.kinds[j], return_inverse=True)[1]
        spread = np.linspace(0, nat - 1, min(_MOST, nat)).round().astype(np.int64)
        from_centre = _sorted_within(np.sqrt((places**2).sum(axis=2)), self.kinds)
        return np.hstack([from_centre[:, np.union1d(few, spread)], _sorted_within(between, pairs)])


def _rows(by_size: dict[int, Ints], sizes: Ints, which: Ints) -> Ints:
    """The fragments of sets of one size, (m, k)."""
    size = int(sizes[which[0]])
    first = int(np.flatnonzero(sizes == size)[0])
    return by_size[size][which - first]


def _sorted_within(values: Floats, names: Ints) -> Floats:
    """Each row sorted within the columns of one name."""
    found = np.empty_like(values)
    for name in np.unique(names):
        found[:, names == name] = np.sort(values[:, names == name], axis=1)
    return found


def _together(left: Ints, label: Ints) -> Ints:
    """Those that have others of their label beside them."""
    counts = np.bincount(label[left], minlength=1)
    return left[counts[label[left]] > 1]


def _parted(prints: Floats, width: float) -> Ints:
    """Numbers of groups, (n,): two whose fingerprints are within the width of each other are in one group."""
    label = np.zeros(len(prints), dtype=np.int64)
    count = 0
    while (most := int(label.max(initial=0)) + 1) > count:
        count = most
        for column in prints.T:
            order = np.lexsort((column, label))
            apart = (np.diff(label[order]) != 0) | (np.diff(column[order]) > width)
            label[order] = np.concatenate([[0], np.cumsum(apart)])
    return label
