"""Fragments: what is given of each, how a cluster is cut into them, and what can't be right."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import qcelemental as qcel
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.errors import InputError

__all__ = ["Fragment", "check_apart", "check_groups", "fragments_of"]

_NEAREST = 0.1  # a0
_ACROSS = np.array([0.5973, 0.6327, 0.4928])  # of about unit length; at an angle to all planes of a lattice
_BOND = 1.2  # of two covalent radii
_WIDTH = 80  # of fragments in messages
_NO_RADIUS = 1.8  # a0; of elements without one, as QCElemental has it


@frozen(eq=False)
class Fragment:
    """One fragment.

    Attributes
    ----------
    symbols
        Elements, one an atom.
    places : (nat, 3) float array, a0
    charge
        In units of the elementary charge.
    multiplicity
        2S + 1; None for the lowest possible.
    """

    symbols: tuple[str, ...]
    places: NDArray[np.float64]
    charge: float = 0.0
    multiplicity: int | None = None

    def checked_multiplicity(self, number: int) -> int:
        """The multiplicity, if the electrons allow it; `number` is for the message."""
        electrons: int = sum(qcel.periodictable.to_Z(symbol) for symbol in self.symbols) - round(self.charge)
        lowest = 1 + electrons % 2
        if electrons < 0:
            raise InputError(f"Fragment {number} has charge {self.charge:g}, which is more than its nuclei have.")
        if self.multiplicity is None:
            return lowest
        if self.multiplicity < 1 or (self.multiplicity - lowest) % 2 or self.multiplicity - 1 > electrons:
            raise InputError(
                f"Fragment {number} with charge {self.charge:g} has {electrons} electrons, which can't have "
                f"multiplicity {self.multiplicity}; the lowest possible is {lowest}."
            )
        return self.multiplicity


def check_apart(symbols: Sequence[str], geometry: NDArray[np.float64]) -> None:
    """Refuse two atoms on top of each other, nearer than 0.1 a0.

    Parameters
    ----------
    symbols
        Elements, one an atom.
    geometry : (nat, 3) float array, a0

    Raises
    ------
    InputError
        With the two atoms and their distance.
    """
    heights = geometry @ (_ACROSS / np.linalg.norm(_ACROSS))
    order = np.argsort(heights, kind="stable")
    places, heights = geometry[order], heights[order]
    for step in range(1, len(places)):
        if (heights[step:] - heights[:-step]).min() > _NEAREST:
            return
        distance = np.sqrt(((places[step:] - places[:-step]) ** 2).sum(axis=1))
        if distance.min() < _NEAREST:
            first = int(distance.argmin())
            a, b = sorted((int(order[first]), int(order[first + step])))
            raise InputError(
                f"The atoms {a} ({symbols[a]}) and {b} ({symbols[b]}), counted from 0, are {distance[first]:.2g} a0 "
                "apart; remove the one given twice, or correct the geometry or molecule.units."
            )


def fragments_of(
    symbols: Sequence[str],
    places: NDArray[np.float64],
    fragments: Any,
    charges: Sequence[float] | None,
    multiplicities: Sequence[int] | None,
) -> list[Fragment]:
    """Cut atoms into fragments.

    Parameters
    ----------
    symbols, places
        Elements and coordinates, (nat, 3) in a0.
    fragments
        "auto" for one fragment a connected group of atoms, or lists of 0-based atoms that follow each other.
    charges, multiplicities
        One a fragment; neutral and lowest if left out.
    """
    groups = _connected(symbols, places) if fragments == "auto" else fragments
    if fragments == "auto" and len(groups) == len(symbols) > 1 and "H" in symbols:
        warnings.warn(
            "No two atoms are close enough to be bonded, so that each, hydrogens too, is a fragment of its own. "
            "Correct molecule.units, or give molecule.fragments if that is what is meant.",
            stacklevel=2,
        )
    hint = (
        " Where several molecules are in one, they are too close: correct molecule.units."
        if fragments == "auto"
        else ""
    )
    check_groups([list(group) for group in groups], len(symbols), hint)
    for name, values in (("charges", charges), ("multiplicities", multiplicities)):
        if values is not None and len(values) != len(groups):
            raise InputError(
                f"molecule.{name} = {values!r:.80} must have one entry for each of {len(groups)} fragments."
            )
    return [
        Fragment(
            tuple(symbols[a] for a in atoms),
            places[list(atoms)],
            float(charges[i]) if charges is not None else 0.0,
            int(multiplicities[i]) if multiplicities is not None else None,
        )
        for i, atoms in enumerate(groups)
    ]


def check_groups(groups: Sequence[Sequence[int]], nat: int, hint: str = "") -> None:
    """Refuse fragments that overlap, leave out an atom, have one that is not there, or don't follow the order of atoms.

    Parameters
    ----------
    groups
        0-based atoms of each fragment.
    nat
        Number of atoms.
    hint
        What else to say of groups that don't follow the order.

    Raises
    ------
    InputError
        With the first atom that is wrong.
    """
    order = [atom for group in groups for atom in group]
    if order == list(range(nat)):
        return
    each = f"each of the {nat} atoms, 0 to {nat - 1}, goes into one fragment."
    if beyond := [atom for atom in order if atom not in range(nat)]:
        raise InputError(f"molecule.fragments has an atom {beyond[0]}, which there is not; {each}")
    times = Counter(order)
    if twice := [atom for atom in order if times[atom] > 1]:
        raise InputError(f"molecule.fragments has atom {twice[0]} twice; {each}")
    if missing := [atom for atom in range(nat) if not times[atom]]:
        raise InputError(f"molecule.fragments leaves out atom {missing[0]}; {each}")
    told = repr(groups)
    if len(told) > _WIDTH:
        told = f"{told[: told.rindex(',', 0, _WIDTH)]}, ...]]"
    raise InputError(
        f"The fragments {told} don't follow the order of the atoms; "
        f"sort the atoms so that those of each fragment stand together, fragment by fragment.{hint}"
    )


def _connected(symbols: Sequence[str], places: NDArray[np.float64]) -> list[list[int]]:
    """Groups of atoms joined by bonds (closer than 1.2 times the sum of covalent radii), in order of first atom."""
    from scipy.sparse import coo_array  # both take a while to import
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    known = {symbol: qcel.covalentradii.get(symbol, missing=_NO_RADIUS) for symbol in set(symbols)}
    radii = np.array([known[symbol] for symbol in symbols])
    pairs = cKDTree(places).query_pairs(2 * _BOND * radii.max(), output_type="ndarray")
    distance = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    bonds = pairs[distance < _BOND * radii[pairs].sum(axis=1)]
    graph = coo_array((np.ones(len(bonds)), bonds.T), shape=(len(places), len(places)))
    group = connected_components(graph, directed=False)[1]
    atoms = np.argsort(group, kind="stable")
    groups = np.split(atoms, np.flatnonzero(np.diff(group[atoms])) + 1)
    return sorted(part.tolist() for part in groups)
