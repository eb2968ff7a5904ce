"""Which fragment calculations differ in nothing but where their atoms are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec import Expansion

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["Cluster", "alike"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@frozen(eq=False)
class Cluster:
    """The cluster as arrays, fragments padded to the size of the largest.

    Attributes
    ----------
    places : (nat, 3) float array, a0
    atoms : (nfr, most) int array
        Of each fragment; -1 where there are no more.
    kinds : (2, nfr, most) int array
        Numbers of the kinds of the atoms, as ghosts and as real ones.
    states : (2, nfr) int array
        Numbers of the kinds of the fragments, as ghosts and as real ones.
    owners : (nat,) int array
        The fragment of each atom.
    fixed
        Whether the origin must stay where it is.
    """

    places: Floats
    atoms: Ints
    kinds: Ints
    states: Ints
    owners: Ints
    fixed: bool

    @classmethod
    def of(cls, molecule: Molecule, fixed: bool) -> Cluster:
        """That of a molecule."""
        groups = [np.asarray(atoms) for atoms in molecule.fragments]
        masses = np.round(np.asarray(molecule.masses), 6).tolist()
        named = list(zip(molecule.symbols.tolist(), masses, strict=True))
        made_of = [tuple(sorted(named[atom] for atom in atoms)) for atoms in groups]
        told: list[list[tuple[object, ...]]] = [
            [("ghost", made) for made in made_of],
            list(zip(made_of, molecule.fragment_charges, molecule.fragment_multiplicities, strict=True)),
        ]
        number = _Numbers()
        atoms = np.full((len(groups), max(map(len, groups))), -1)
        kinds = np.zeros((2, *atoms.shape), dtype=np.int64)
        owners = np.empty(len(named), dtype=np.int64)
        for place, group in enumerate(groups):
            atoms[place, : len(group)], owners[group] = group, place
            for real in (0, 1):
                kinds[real, place, : len(group)] = [number.of((told[real][place], named[atom])) for atom in group]
        states = np.array([[number.of(each) for each in row] for row in told])
        return cls(molecule.geometry, atoms, kinds, states, owners, fixed)


class _Numbers(dict[object, int]):
    """Numbers from 0 up for whatever is met."""

    def of(self, what: object) -> int:
        """The number of it, the next one if it is new."""
        return self.setdefault(what, len(self))


def alike(cluster: Cluster, expansion: Expansion) -> Iterator[Ints]:
    """Tasks of the same model chemistry and the same kinds of fragments, two or more."""
    ghosts, real = (_kinds_of_sets(expansion, states) for states in cluster.states)
    rows = np.stack([expansion.mc, real[expansion.frag], ghosts[expansion.bas]], axis=1)
    label = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(label, kind="stable")
    for tasks in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if len(tasks) > 1:
            yield tasks


def _kinds_of_sets(expansion: Expansion, states: Ints) -> Ints:
    """A number for each fragment set, the same for those of the same kinds of fragments, (nset,)."""
    found, count = [], 0
    for sets in expansion.sets.by_size.values():
        label = np.unique(np.sort(states[sets - 1], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        found.append(label + count)
        count += int(label.max(initial=-1)) + 1
    return np.concatenate(found)
