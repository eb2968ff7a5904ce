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
        pairs = [self._nearest[sets[:, a] - 1, sets[:, b] - 1] for a, b in combinations(range(sets.shape[1]), 2)]
        found: NDArray[np.float64] = np.max(pairs, axis=0)
        return found

    def kinds(self, sets: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for each set, the same for those of the same kinds of fragments, (m, n) to (m,)."""
        return np.unique(np.sort(self._kind[sets - 1], axis=1), axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def _nearest(self) -> NDArray[np.float64]:
        """Distances between closest atoms, (nfr, nfr), a0."""
        groups = [np.asarray(atoms) for atoms in self.molecule.fragments]
        starts = np.cumsum([0, *map(len, groups[:-1])])
        places = self.molecule.geometry[np.concatenate(groups)]
        squared = [((self.molecule.geometry[atoms, None] - places) ** 2).sum(axis=2).min(axis=0) for atoms in groups]
        found: NDArray[np.float64] = np.sqrt([np.minimum.reduceat(row, starts) for row in squared])
        return found.round(_DIGITS)

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
