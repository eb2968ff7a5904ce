"""How far apart the fragments of a set are, and which sets are made of the same kinds of fragments."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["Fragments"]

_DIGITS = 3  # of distances in a0: those equal by symmetry are equal, though coordinates are rounded
_BLOCK = 1_000_000  # distances that are looked at together


@frozen(eq=False, slots=False)
class Fragments:
    """The fragments of a molecule, as far as distances and kinds go."""

    molecule: Molecule

    def apart(self, sets: NDArray[np.int64]) -> NDArray[np.float64]:
        """The greatest distance between two fragments of each set, from closest atom to closest atom.

        Parameters
        ----------
        sets : (m, n) int array
            1-based fragment numbers.

        Returns
        -------
        (m,) float array, a0
        """
        nfr = len(self.molecule.fragments)
        columns = list(combinations(range(sets.shape[1]), 2))
        keys = np.stack([(sets[:, a] - 1) * nfr + sets[:, b] - 1 for a, b in columns])
        unique, place = np.unique(keys, return_inverse=True)
        found: NDArray[np.float64] = self._nearest(*np.divmod(unique, nfr))[place.reshape(keys.shape)].max(axis=0)
        return found

    def kinds(self, sets: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for each set, the same for those of the same kinds of fragments, (m, n) to (m,)."""
        if not self._kind.any():
            return np.zeros(len(sets), dtype=np.int64)
        return np.unique(np.sort(self._kind[sets - 1], axis=1), axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def charges(self) -> NDArray[np.float64]:
        """Of the fragments, (nfr,)."""
        return np.array(self.molecule.fragment_charges)

    def _nearest(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances between closest atoms of pairs of fragments, (m,), a0; those of as many atoms each together."""
        sizes, firsts = self._atoms
        places = np.asarray(self.molecule.geometry)[np.concatenate(self.molecule.fragments)]
        found = np.empty(len(one))
        order = np.lexsort((sizes[other], sizes[one]))
        changes = np.flatnonzero(np.diff(sizes[one][order]) | np.diff(sizes[other][order])) + 1
        for alike in np.split(order, changes):
            count = sizes[one[alike[0]]] * sizes[other[alike[0]]] if len(alike) else 1
            for part in np.array_split(alike, len(alike) * count // _BLOCK + 1):
                atoms = firsts[one[part], None] + np.arange(sizes[one[part[0]]])
                others = firsts[other[part], None] + np.arange(sizes[other[part[0]]])
                apart = places[atoms][:, :, None] - places[others][:, None]
                found[part] = np.sqrt((apart**2).sum(axis=3).min(axis=(1, 2)))
        return found.round(_DIGITS)

    @cached_property
    def _atoms(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many atoms each fragment has, and where they begin when fragments follow each other, (nfr,) each."""
        sizes = np.array([len(atoms) for atoms in self.molecule.fragments])
        return sizes, np.cumsum(sizes) - sizes

    @cached_property
    def _kind(self) -> NDArray[np.int64]:
        """A number for each fragment, the same for those of the same elements, charge and multiplicity, (nfr,)."""
        m = self.molecule
        described = [
            (tuple(sorted(m.symbols[atoms])), charge, multiplicity)
            for atoms, charge, multiplicity in zip(
                map(np.asarray, m.fragments), m.fragment_charges, m.fragment_multiplicities, strict=True
            )
        ]
        number = {kind: place for place, kind in enumerate(dict.fromkeys(described))}
        return np.array([number[kind] for kind in described])
