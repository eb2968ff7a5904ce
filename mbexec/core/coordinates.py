"""Geometries as people write them: fragments parted by ``--``, or an .xyz file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import qcelemental as qcel
from numpy.typing import NDArray

from mbexec.core.config import read_text
from mbexec.core.errors import InputError
from mbexec.core.geometry import Fragment

__all__ = ["parse_geometry", "read_xyz"]

_COLUMNS = "species:S:1:pos:R:3"  # the first four, in the words of extended .xyz files
_NOT_PERIODIC = re.compile(r"\bpbc\s*=\s*[\"{]?\s*F(alse)?([\s,]+F(alse)?){2}", re.IGNORECASE)


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
