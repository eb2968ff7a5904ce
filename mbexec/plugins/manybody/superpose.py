"""Superposing molecules: the rotation, with or without a reflection, that takes one to another.

Atoms of a kind may change places. Which goes where is not known beforehand, and to try all permutations would take too
long. But the images of the centre and of two atoms, one far from the centre and one far off the line through both,
decide a motion, but for a reflection. These two can only go where an atom of their kind is as far from the centre, and
as far from the other one. Each such choice is tried: every atom goes to the nearest of its kind, and the best
superposition of the atoms in that order is found by [1]_ and looked at. With two atoms so far out, the motion is off by
some ten times the tolerance at most, so that the nearest atom is the right one.

References
----------
.. [1] W. Kabsch, Acta Cryst. A32, 922 (1976); A34, 827 (1978).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

__all__ = ["Molecules", "Superposition", "margin", "superpose"]

_AT_ONCE = 1_000_000  # distances that are worked on together
_TINY = 1e-12
_ROUNDING = 1e-9  # a0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@frozen(eq=False)
class Molecules:
    """Molecules with the same kinds of atoms.

    Attributes
    ----------
    places : (n, nat, 3) float array, a0
        With the centre, which a motion takes to the centre, at the origin.
    parts : (n, nat) int array
        The fragment that each atom is of.
    """

    places: Floats
    parts: Ints

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, which: Ints | slice) -> Molecules:
        return Molecules(self.places[which], self.parts[which])


@frozen(eq=False)
class Superposition:
    """How molecules go onto others.

    Attributes
    ----------
    rotations : (n, 3, 3) float array
        Orthogonal matrices R.
    orders : (n, nat) int array
        Atom i goes to R times its place, where atom ``order[i]`` is.
    deviations : (n,) float array
        The greatest distance between the two, a0; infinite where it would be beyond the tolerance.
    """

    rotations: Floats
    orders: Ints
    deviations: Floats


def margin(tolerance: float) -> float:
    """By how much a distance may differ between molecules that are the same within a tolerance, a0."""
    return 2 * tolerance + _ROUNDING


def superpose(those: Molecules, onto: Molecules, kinds: Ints, tolerance: float) -> Superposition:
    """Take each molecule to another one, if they are the same.

    Parameters
    ----------
    those, onto
        As many of each.
    kinds : (nat,) int array
        Of the atoms, the same in all of them.
    tolerance
        The greatest distance of an atom from its image, a0.
    """
    size, nat = len(those), len(kinds)
    found = Superposition(np.tile(np.eye(3), (size, 1, 1)), np.tile(np.arange(nat), (size, 1)), np.full(size, np.inf))
    step = max(1, _AT_ONCE // nat**2)
    for start in range(0, size, step):
        part = slice(start, start + step)
        _superpose(those[part], onto[part], kinds, tolerance, found, start)
    return found


def _superpose(
    those: Molecules, onto: Molecules, kinds: Ints, tolerance: float, found: Superposition, start: int
) -> None:
    width = margin(tolerance)
    one, two = _outer_atoms(those.places, kinds, width)
    for which, first, second in _choices(those.places, onto.places, kinds, one, two, width):
        for hand in (1, -1):
            left = np.isinf(found.deviations[start + which])
            which, first, second = which[left], first[left], second[left]
            if not len(which):
                break
            frame = _frames(those.places[which], one[which], two[which], hand)
            turn = _frames(onto.places[which], first, second, 1) @ frame.swapaxes(1, 2)
            _try(those[which], onto[which], kinds, hand, turn, tolerance, found, start + which)


def _try(
    those: Molecules,
    onto: Molecules,
    kinds: Ints,
    hand: int,
    turn: Floats,
    tolerance: float,
    found: Superposition,
    where: Ints,
) -> None:
    """Note those that go onto the others when turned about so."""
    nat = len(kinds)
    turned = those.places @ turn.swapaxes(1, 2)
    squared = (onto.places**2).sum(axis=2)[:, None] - 2 * turned @ onto.places.swapaxes(1, 2)
    order = np.where(kinds[:, None] == kinds, squared, np.inf).argmin(axis=2)
    each_once = (np.sort(order, axis=1) == np.arange(nat)).all(axis=1)
    rows = np.arange(len(order))[:, None]
    images = onto.places[rows, order]
    rotation = _best_rotation(those.places, images, hand)
    apart = np.sqrt(((images - those.places @ rotation.swapaxes(1, 2)) ** 2).sum(axis=2)).max(axis=1)
    good = each_once & _whole(those.parts, onto.parts[rows, order]) & (apart <= tolerance)
    found.rotations[where[good]] = rotation[good]
    found.orders[where[good]] = order[good]
    found.deviations[where[good]] = apart[good]


def _whole(parts: Ints, gone_to: Ints) -> NDArray[np.bool_]:
    """Whether the atoms of each fragment have gone to one fragment, (n,)."""
    rows, order = np.arange(len(parts))[:, None], np.argsort(parts, axis=1, kind="stable")
    same = np.diff(parts[rows, order]) == 0
    parted: NDArray[np.bool_] = (same & (np.diff(gone_to[rows, order]) != 0)).any(axis=1)
    return ~parted


def _outer_atoms(places: Floats, kinds: Ints, width: float) -> tuple[Ints, Ints]:
    """An atom far from the centre, and one far off the line through both; (n,) each.

    Of those at least a quarter as far out as the farthest: what has the fewest others that could be taken for it.
    """
    rows = np.arange(len(places))
    same = kinds[:, None] == kinds
    radius = np.sqrt((places**2).sum(axis=2))
    alike = same & (np.abs(radius[:, :, None] - radius[:, None]) <= width)
    one = _fewest(alike.sum(axis=2), radius)
    axis = _unit(places[rows, one], np.array([1.0, 0.0, 0.0]))
    along = (places * axis[:, None]).sum(axis=2)
    off = np.sqrt(((places - along[:, :, None] * axis[:, None]) ** 2).sum(axis=2))
    away = np.sqrt(((places - places[rows, one][:, None]) ** 2).sum(axis=2))
    alike &= np.abs(away[:, :, None] - away[:, None]) <= width
    return one, _fewest(alike.sum(axis=2), off)


def _fewest(counts: Ints, distance: Floats) -> Ints:
    """The atom of the least count; of several the farthest; (n,)."""
    most = distance.max(axis=1)[:, None]
    score = np.where(distance >= most / 4, counts + 1 - distance / (most + _TINY), np.inf)
    found: Ints = score.argmin(axis=1)
    return found


def _choices(
    places: Floats, onto: Floats, kinds: Ints, one: Ints, two: Ints, width: float
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Molecules and where their two atoms may go: for each molecule its first choice, then its second, and so on."""
    rows = np.arange(len(places))
    radius = np.sqrt((onto**2).sum(axis=2))

    def as_far(atom: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Atoms that this one may go to, (n, most), and which of these are any."""
        far = np.sqrt((places[rows, atom] ** 2).sum(axis=1))
        fitting = (kinds == kinds[atom][:, None]) & (np.abs(radius - far[:, None]) <= width)
        most = int(fitting.sum(axis=1).max(initial=0))
        found = np.argsort(~fitting, axis=1, kind="stable")[:, :most]
        return found, fitting[rows[:, None], found]

    (first, there), (second, there_too) = as_far(one), as_far(two)
    apart = onto[rows[:, None], first][:, :, None] - onto[rows[:, None], second][:, None]
    between = np.sqrt(((places[rows, one] - places[rows, two]) ** 2).sum(axis=1))
    fitting = np.abs(np.sqrt((apart**2).sum(axis=3)) - between[:, None, None]) <= width
    which, a, b = np.nonzero(fitting & there[:, :, None] & there_too[:, None])
    counts = np.bincount(which, minlength=len(places))
    begin = np.cumsum(counts) - counts
    for rank in range(int(counts.max(initial=0))):
        now = (begin + rank)[counts > rank]
        yield which[now], first[which[now], a[now]], second[which[now], b[now]]


def _frames(places: Floats, one: Ints, two: Ints, hand: int) -> Floats:
    """Right-handed (1) or left-handed (-1) axes along one atom, and towards another, as columns, (n, 3, 3)."""
    rows = np.arange(len(places))
    x = _unit(places[rows, one], np.array([1.0, 0.0, 0.0]))
    across = np.eye(3)[np.abs(x).argmin(axis=1)]
    across = across - (across * x).sum(axis=1)[:, None] * x
    b = places[rows, two]
    y = _unit(b - (b * x).sum(axis=1)[:, None] * x, _unit(across, across))
    return np.stack([x, y, hand * np.cross(x, y)], axis=2)


def _unit(vectors: Floats, otherwise: Floats) -> Floats:
    """Vectors of length 1; others where there is no direction."""
    length = np.sqrt((vectors**2).sum(axis=1))[:, None]
    found: Floats = np.where(length > _TINY, vectors / np.maximum(length, _TINY), otherwise)
    return found


def _best_rotation(places: Floats, images: Floats, hand: int) -> Floats:
    """The orthogonal matrices of determinant `hand` that take places closest to their images, (n, 3, 3)."""
    u, _, vt = np.linalg.svd(images.swapaxes(1, 2) @ places)
    u[:, :, 2] *= (hand * np.sign(np.linalg.det(u) * np.linalg.det(vt)))[:, None]
    found: Floats = u @ vt
    return found
