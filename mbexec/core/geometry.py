"""Geometries as people write them: fragments parted by ``--``, or an .xyz file that is cut into fragments."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qcelemental as qcel
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.config import read_text
from mbexec.core.errors import InputError

__all__ = ["Fragment", "check_apart", "check_groups", "fragments_of", "parse_geometry", "read_xyz"]

_NEAREST = 0.1  # a0
_ACROSS = np.array([0.5973, 0.6327, 0.4928])  # of about unit length; at an angle to all planes of a lattice
_BOND = 1.2  # of two covalent radii
_COLUMNS = "species:S:1:pos:R:3"  # the first four, in the words of extended .xyz files
_NOT_PERIODIC = re.compile(r"\bpbc\s*=\s*[\"{]?\s*F(alse)?([\s,]+F(alse)?){2}", re.IGNORECASE)
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


def parse_geometry(text: str, unit: float) -> list[Fragment]:
    """Fragments parted by lines of ``--``, each headed by charge and multiplicity if those are not 0 and lowest.

    Parameters
    ----------
    text
        One atom a line: element, x, y, z.
    unit
        Of the coordinates, in a0.

    Raises
    ------
    InputError
        If a line is neither; it quotes the line and its number.
    """
    found: list[Fragment] = []
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), "--"], start=1):
        line = line.split("#")[0].strip()
        if line.startswith("--"):
            _check_separator(number, line)
            found.append(_fragment(lines, len(found) + 1, unit))
            lines = []
        elif line:
            lines.append((number, line))
    return found


def _check_separator(number: int, line: str) -> None:
    """Words may stand behind a separator, but no atom, charge or multiplicity: they would not be seen."""
    try:
        last = [float(word) for word in line.lstrip("-").split()[-2:]]
    except ValueError:
        return
    if len(last) == 2:
        raise InputError(
            f"molecule.geometry, line {number}: {line!r} parts fragments; put what follows on the next line."
        )


def _fragment(lines: Sequence[tuple[int, str]], number: int, unit: float) -> Fragment:
    charge, multiplicity = 0.0, None
    if lines and len(lines[0][1].split()) == 2:
        charge, multiplicity = _charge_and_multiplicity(*lines[0])
        lines = lines[1:]
    if not lines:
        raise InputError(f"molecule.geometry: fragment {number} has no atoms.")
    atoms = [_atom(f"molecule.geometry, line {n}", line) for n, line in lines]
    return Fragment(tuple(s for s, _ in atoms), unit * np.array([p for _, p in atoms]), charge, multiplicity)


def _charge_and_multiplicity(number: int, line: str) -> tuple[float, int]:
    try:
        first, second = map(_plain, line.split())
        charge, multiplicity = float(first), int(second)
        if not charge.is_integer():
            raise ValueError
    except ValueError:
        raise InputError(
            f"molecule.geometry, line {number}: {line!r} is neither an atom nor a charge and a multiplicity; "
            "write O 0.0 0.0 0.1 for an atom, 0 1 for a charge and a multiplicity (whole numbers)."
        ) from None
    return charge, multiplicity


def _plain(word: str) -> str:
    """A number as programs write it; Python would read 1_0 and the digits of other scripts, too."""
    if not word.isascii() or "_" in word:
        raise ValueError
    return word


def _atom(where: str, line: str) -> tuple[str, list[float]]:
    words = line.replace(",", " ").split()
    try:
        place = [float(_plain(word)) for word in words[1:]]
        if len(place) != 3 or not np.isfinite(place).all():
            raise ValueError
    except ValueError:
        raise InputError(
            f"{where}: {line!r} is not an element and three coordinates; write an atom as O 0.0 0.0 0.1."
        ) from None
    return _element(where, words[0]), place


def _element(where: str, symbol: str) -> str:
    """The element of a symbol or an atomic number; ghosts, dummies and isotopes are none."""
    known = qcel.periodictable.E
    element = known[int(symbol)] if symbol.isdecimal() and int(symbol) < len(known) else symbol.capitalize()
    if not symbol.isascii() or element not in known[1:]:
        raise InputError(f"{where}: {symbol!r} is not an element; give its symbol or its atomic number.")
    return str(element)


def read_xyz(path: Path, unit: float) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Elements and coordinates, (nat, 3) in a0, of an .xyz file whose coordinates are in `unit` a0.

    Raises
    ------
    ConfigError
        If the file can't be read.
    InputError
        If it is not in the .xyz format.
    """
    lines = read_text(path).rstrip().splitlines()
    if not lines or not re.fullmatch("[0-9]+", lines[0].strip()) or int(lines[0]) == 0:
        raise InputError(
            f"{path}, line 1: an .xyz file begins with the number of atoms; got {(lines or [''])[0]!r:.80}."
        )
    nat = int(lines[0])
    if len(lines) != nat + 2:
        raise InputError(
            f"{path} promises {nat} atoms but has {max(len(lines) - 2, 0)} lines of them; "
            "correct the number in its first line, and leave one geometry in the file if there are several."
        )
    columns = re.search(r'\bProperties\s*=\s*"?([^\s"]+)', lines[1], re.IGNORECASE)
    if columns and "pos:" in columns[1].lower() and not columns[1].lower().startswith(_COLUMNS.lower()):
        raise InputError(
            f"{path}, line 2: Properties = {columns[1]:.80} puts other columns before the positions; "
            f"the first four are read, so let it begin with {_COLUMNS}."
        )
    atoms = [_atom(f"{path}, line {n}", " ".join(lines[n - 1].split()[:4])) for n in range(3, nat + 3)]
    if re.search(r'\bLattice\s*=\s*["{]', lines[1], re.IGNORECASE) and not _NOT_PERIODIC.search(lines[1]):
        warnings.warn(
            f"{path}, line 2: the lattice is not used. The atoms are taken as a cluster without periodic images, and a "
            'molecule that crosses a face of the cell as two; make it whole first, and write pbc="F F F" to say so.',
            stacklevel=2,
        )
    return tuple(symbol for symbol, _ in atoms), unit * np.array([place for _, place in atoms])


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
