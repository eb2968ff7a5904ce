"""Which pairs of fragments are near each other, and the fragment sets that a distance cutoff keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mbexec import FragmentSets, InputError

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["CLOSEST_ATOMS", "MEASURES", "centers_of_mass", "near_pairs", "screened_sets"]

CLOSEST_ATOMS = "closest_atoms"
MEASURES = (CLOSEST_ATOMS, "centers_of_mass")

_TOLERANCE = 1e-3  # a0; pairs this much beyond a cutoff are within: coordinates are written with few decimals
_SAME = 1e-7  # a0; distances that differ by less are equal: QCSchema rounds coordinates to 1e-8
_MARGIN = 1e-5  # a0; how far beyond the tolerance equal ones are looked for
_BLOCK = 500_000  # neighbours of atoms that are found at once, so that memory does not grow with the cluster
_SAMPLE = 100  # atoms whose neighbours are counted to know how many there are


def screened_sets(
    molecule: Molecule, max_nbody: int, cutoffs: Mapping[int, float], measure: str, most: int
) -> FragmentSets:
    """The sets of up to `max_nbody` fragments whose pairs, and those of whose subsets, are within their cutoffs.

    Parameters
    ----------
    molecule
        The cluster.
    max_nbody
        Size of the largest sets.
    cutoffs
        The greatest distance of two fragments in a set, a0, by its size.
    measure
        Between what: one of `MEASURES`.
    most
        How many sets of a size there may be.
    """
    pairs, distances = near_pairs(molecule, max(cutoffs.values()) + _TOLERANCE + _MARGIN, measure, most)
    links = {size: pairs[distances <= _limit(cutoff, distances)] + 1 for size, cutoff in cutoffs.items()}
    return FragmentSets.linked(len(molecule.fragments), max_nbody, links, most)


def _limit(cutoff: float, distances: NDArray[np.float64]) -> float:
    """The cutoff, with its tolerance, moved on so that it does not fall between distances that are equal."""
    limit = cutoff + _TOLERANCE
    for distance in np.sort(distances[(distances > limit) & (distances < limit + _MARGIN)]).tolist():
        if distance - limit > _SAME:
            break
        limit = distance
    return limit


def near_pairs(
    molecule: Molecule, reach: float, measure: str, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of fragments that are no farther apart than `reach`, in a0, and how far they are; at most so many.

    Returns
    -------
    pairs : (m, 2) int array
        0-based, in lexicographic order.
    distances : (m,) float array, a0
    """
    nfr = len(molecule.fragments)
    if measure == CLOSEST_ATOMS:
        order = np.concatenate(molecule.fragments)
        places = np.asarray(molecule.geometry)[order]
        owner = np.repeat(np.arange(nfr), list(map(len, molecule.fragments)))
    else:
        places, owner = centers_of_mass(molecule), np.arange(nfr)
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for block in _blocks(places, owner, reach):
        found.append(block)
        if sum(len(keys) for keys, _ in found) > most:
            raise InputError(f"There are more than {most:,} pairs of fragments within the cutoffs; lower them.")
    keys = np.concatenate([keys for keys, _ in found])
    return np.column_stack(np.divmod(keys, nfr)), np.concatenate([distances for _, distances in found])


def _blocks(
    places: NDArray[np.float64], owner: NDArray[np.int64], reach: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Pairs as numbers and their least distances, for one block of fragments after another."""
    from scipy.spatial import cKDTree  # takes a while to import

    nfr, start = int(owner[-1]) + 1, 0
    tree = cKDTree(places)
    neighbours = tree.query_ball_point(places[:: len(places) // _SAMPLE + 1], reach, return_length=True).mean()
    block = max(1, int(_BLOCK / neighbours))
    while start < len(places):
        last = owner[min(start + block, len(places)) - 1]
        stop = int(np.searchsorted(owner, last, side="right"))
        near = cKDTree(places[start:stop]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        first, second = owner[start + near["i"]], owner[near["j"]]
        kept = second > first
        keys, distances = first[kept] * nfr + second[kept], near["v"][kept]
        order = np.argsort(keys, kind="stable")
        unique, starts = np.unique(keys[order], return_index=True)
        yield unique, np.minimum.reduceat(distances[order], starts) if len(unique) else distances
        start = stop


def centers_of_mass(molecule: Molecule) -> NDArray[np.float64]:
    """The centre of mass of each fragment, (nfr, 3), a0."""
    sizes = np.array(list(map(len, molecule.fragments)))
    order = np.concatenate(molecule.fragments)
    masses = np.asarray(molecule.masses)[order]
    starts = np.cumsum(sizes) - sizes
    weighted = np.add.reduceat(masses[:, None] * np.asarray(molecule.geometry)[order], starts)
    found: NDArray[np.float64] = weighted / np.add.reduceat(masses, starts)[:, None]
    return found
