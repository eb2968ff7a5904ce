"""Sums that are exact, so that they do not depend on the order of their terms.

A total over tens of thousands of fragments multiplies energies of hundreds of E_h by coefficients of thousands and
cancels almost all of it. Values are therefore cut into slices of so few bits that whole-number multiples of a slice
add up in floats without rounding, a whole batch at a time. What the slices of energies add up to goes to
:func:`math.fsum`; that of arrays (gradients, Hessians) goes into whole numbers on a fixed binary grid, which streams
and needs no memory per term.

References
----------
S. M. Rump, T. Ogita, S. Oishi, SIAM J. Sci. Comput. 31, 189 (2008), section 3 (slices);
J. R. Shewchuk, Discrete Comput. Geom. 18, 305 (1997) (fsum).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from attrs import define, field
from numpy.typing import ArrayLike, NDArray

__all__ = ["ArraySum", "exact_dot"]

_MANTISSA = 53  # bits of a float: whole numbers up to 2^53 add up in it exactly
_HALF = 26  # bits of a coefficient that slices of a dot product allow for
_CHUNK = 2**14  # terms of a dot product at a time
_HUGE = 2.0**900
_LIMB_BITS = 32
_MASK = 2**_LIMB_BITS - 1
_LIMBS = 7  # the first counts the grid's steps of 2^-160, each further one 2^32 times as much
_GRID = -160
_FULL = 2**29  # sum of |coefficients| of a batch: more would make its slices thin
_LARGEST = 2.0**30
_DEPOSITS = 2**8  # sums that 64-bit limbs take until their carries must be passed on


def exact_dot(coefficients: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """The sum of whole-number coefficients times values, rounded once.

    Parameters
    ----------
    coefficients : (n,) int array
        Below 2^53 in magnitude.
    values : (n,) float array
        Finite where the coefficient is not zero; not looked at elsewhere.
    """
    used = np.flatnonzero(coefficients)
    c, x = coefficients[used], values[used]
    if not np.abs(x).max(initial=0.0) < _HUGE:
        return float(sum((n * Fraction(v) for n, v in zip(c.tolist(), x.tolist(), strict=True)), Fraction(0)))
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(c), _CHUNK)]
    return math.fsum(part for chunk in chunks for part in _dot_parts(c[chunk], x[chunk]))


def _dot_parts(c: NDArray[np.int64], x: NDArray[np.float64]) -> Iterator[float]:
    """A few floats whose sum is exactly the dot product."""
    if (np.abs(c) >> _HALF).any():
        high = c >> _HALF
        yield from (math.ldexp(part, _HALF) for part in _dot_parts(high, x))
        c = c - (high << _HALF)
    multiples = c.astype(np.float64)
    bits = _MANTISSA - max(2, int(np.abs(c).sum()).bit_length())
    while largest := np.abs(x).max():
        # Added to this and taken off again, a value loses what is below the slice.
        above = math.ldexp(1.5, math.frexp(largest)[1] - bits + _MANTISSA - 1)
        cut = (x + above) - above
        yield float(np.add.reduce(multiples * cut))
        x = x - cut


@define(eq=False)
class ArraySum:
    """Sums of whole-number multiples of arrays, the same to the last bit in whatever order they are added.

    Each value is cut off below 2^-160, and what is left of it is added exactly; what is cut off is the same whatever
    the order, and far below the last bit of any result above 1e-30.

    Parameters
    ----------
    shape
        The first axis runs over several sums at once, the rest is the shape of each.
    """

    shape: tuple[int, ...]
    _limbs: NDArray[np.int64] = field(init=False)
    _deposits: int = field(default=0, init=False)
    _work: NDArray[np.float64] = field(factory=lambda: np.empty((2, 0)), init=False)

    def __attrs_post_init__(self) -> None:
        self._limbs = np.zeros((_LIMBS, self.shape[0], math.prod(self.shape[1:])), dtype=np.int64)

    def add(
        self,
        coefficients: NDArray[np.int64],
        values: NDArray[np.float64],
        where: tuple[NDArray[np.intp], ...] = (),
    ) -> None:
        """Add multiples of `values` to the sums along the first axis.

        Parameters
        ----------
        coefficients : (shape[0],) int array
            The multiple that each sum takes.
        values : float array
            Below 2^30 in magnitude, and finite.
        where
            Open index (see :func:`numpy.ix_`) of `values` in the remaining axes; all of them if left out.

        Raises
        ------
        ValueError
            If a value is not finite or too large for the grid.
        """
        places = np.arange(self._limbs.shape[-1]).reshape(self.shape[1:])[where or ...]
        self.add_many([coefficients], [values], [places])

    def add_many(self, coefficients: ArrayLike, values: ArrayLike, places: ArrayLike) -> None:
        """Do as :meth:`add` does for several arrays of one shape, in far less time.

        Parameters
        ----------
        coefficients : (n, shape[0]) int array
            The multiples of each array.
        values : (n, ...) float array
            As above.
        places : (n, ...) int array
            Where in the remaining axes, counted in one row in C order, each of the values goes.

        Raises
        ------
        ValueError
            As above.
        """
        multiples = np.asarray(coefficients, dtype=np.int64)
        x = np.asarray(values, dtype=np.float64)
        if not x.size:
            return
        x = x.reshape(len(multiples), -1)
        largest = max(x.max(), -x.min())
        if not largest < _LARGEST:
            raise ValueError(
                f"values must be finite and below 2^30 in magnitude; got {x.flat[np.argmin(np.abs(x) < _LARGEST)]}"
            )
        load = int(np.abs(multiples).sum(axis=0).max(initial=0))
        where = np.asarray(places, dtype=np.intp).reshape(x.shape)
        if load < _FULL:
            self._add(multiples, x, where, _MANTISSA - load.bit_length(), math.frexp(largest)[1])
        elif len(x) > 1:
            for half in (slice(len(x) // 2), slice(len(x) // 2, None)):
                self.add_many(multiples[half], x[half], where[half])
        else:
            raise ValueError(f"coefficients must be below 2^29 in magnitude; got {load}")

    def _add(
        self, multiples: NDArray[np.int64], x: NDArray[np.float64], places: NDArray[np.intp], bits: int, top: int
    ) -> None:
        """Add values below 2^top, of slices of so many bits that the sum of multiples of a slice is exact."""
        rows = np.flatnonzero(multiples.any(axis=0)).tolist()
        owners = np.arange(len(x))[:, None]  # whose multiples each value takes
        unit = max(top - bits, _GRID)
        rest, whole = self._at_work(x.shape)
        np.multiply(x, 2.0**-unit, out=rest)
        while True:
            np.trunc(rest, out=whole)  # towards zero: what is cut off at the end does not depend on the slices before
            for row in rows:
                self._deposit(row, _scattered(multiples[:, row], owners, whole, places, self._limbs.shape[-1]), unit)
            np.subtract(rest, whole, out=rest)
            left = np.count_nonzero(rest != 0)  # of floats it would take twice as long
            if not left or unit == _GRID:
                return
            if 4 * left < rest.size:
                found = np.flatnonzero(rest)
                owners = np.broadcast_to(owners, rest.shape).ravel()[found]
                rest, places = rest.ravel()[found], places.ravel()[found]
                whole = np.empty_like(rest)
            step = min(bits, unit - _GRID)
            unit -= step
            rest *= 2.0**step

    def _at_work(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Two arrays of a shape, the same memory each time: to get it anew takes longer than to add."""
        size = math.prod(shape)
        if self._work.shape[1] < size:
            self._work = np.empty((2, size))
        return self._work[:, :size].reshape(2, *shape)

    def _deposit(self, row: int, sums: NDArray[np.float64], unit: int) -> None:
        """Add whole numbers of 2^unit, below 2^53."""
        limb, shift = divmod(unit - _GRID, _LIMB_BITS)
        whole = sums.astype(np.int64)
        low = (whole & _MASK) << shift
        self._limbs[limb, row] += low & _MASK
        self._limbs[limb + 1, row] += (low >> _LIMB_BITS) + ((whole >> _LIMB_BITS) << shift)
        self._deposits += 1
        if self._deposits == _DEPOSITS:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._deposits:
            _carry(self._limbs)
        self._deposits = 0

    def total(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """The sum of some of the sums along the first axis, rounded once."""
        self._pass_on()
        limbs = self._limbs[:, list(rows)].sum(axis=1)
        _carry(limbs)
        negative = limbs[-1] < 0
        limbs[:, negative] *= -1
        _carry(limbs)
        found = _rounded(limbs)
        found[negative] *= -1.0
        return found.reshape(self.shape[1:])


def _scattered(
    multiples: NDArray[np.int64],
    owners: NDArray[np.intp],
    whole: NDArray[np.float64],
    places: NDArray[np.intp],
    count: int,
) -> NDArray[np.float64]:
    """Sums of multiples of whole numbers by place."""
    alike = bool((multiples == multiples[0]).all())
    if whole.ndim == 2 and places.strides[0] == 0:  # broadcast: all arrays have the same places
        where, weights, alike = places[0], np.einsum("i,ij->j", multiples.astype(np.float64), whole), False
    else:
        where, weights = places, whole if alike else multiples.astype(np.float64)[owners] * whole
    found = np.bincount(where.ravel(), weights.ravel(), count).astype(np.float64, copy=False)
    return multiples[0] * found if alike else found


def _carry(limbs: NDArray[np.int64]) -> None:
    """Bring all limbs but the last, which has the sign, to 32 bits."""
    for lower, upper in pairwise(limbs):
        upper += lower >> _LIMB_BITS
        lower &= _MASK


def _rounded(limbs: NDArray[np.int64]) -> NDArray[np.float64]:
    """What limbs that are not negative stand for, rounded once."""
    nothing = np.zeros((3, limbs.shape[1]), dtype=np.uint64)
    digits = np.concatenate([nothing, limbs[:-1], [limbs[-1] & _MASK, limbs[-1] >> _LIMB_BITS]]).astype(np.uint64)
    there = digits != 0
    first = np.maximum(len(digits) - 1 - there[::-1].argmax(axis=0), len(nothing))
    high, middle, low = (np.take_along_axis(digits, first[None] - i, axis=0)[0] for i in range(3))
    for below, above in pairwise(there):
        above |= below
    # The 64 bits from the first that is set; whether any bit below them is set decides where half a unit goes.
    shift = (_LIMB_BITS - np.frexp(np.maximum(high, 1).astype(np.float64))[1]).astype(np.uint64)
    width = np.uint64(_LIMB_BITS)
    kept = low >> (width - shift)
    word = (high << (width + shift)) | (middle << shift) | kept
    word |= (low != kept << (width - shift)) | np.take_along_axis(there, first[None] - 3, axis=0)[0]
    exponent = _GRID + _LIMB_BITS * (first - len(nothing) - 1) - shift.astype(np.int64)
    found: NDArray[np.float64] = np.ldexp(word.astype(np.float64), exponent)
    return found
