"""Sums that are exact, so that they do not depend on the order of their terms.

A total over tens of thousands of fragments multiplies energies of hundreds of E_h by coefficients of thousands and
cancels almost all of it. Energies are therefore summed from error-free products with :func:`math.fsum`; arrays
(gradients, Hessians) on a fixed binary grid in whole numbers, which streams and needs no memory per term.

References
----------
T. J. Dekker, Numer. Math. 18, 224 (1971), sections 4-5 (splitting and exact products);
J. R. Shewchuk, Discrete Comput. Geom. 18, 305 (1997) (fsum).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

__all__ = ["ArraySum", "exact_dot"]

_SPLIT = 2.0**27 + 1.0
_LIMB_BITS = 32
_LIMBS = 6  # a whole part and five of 32 bits after the binary point: the grid is 2^-160
_FULL = 2**29  # sum of |coefficients| after which 32-bit limbs in 64-bit integers must pass on their carries
_LARGEST = 2.0**30


def exact_dot(coefficients: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """The sum of whole-number coefficients times values, rounded once.

    Parameters
    ----------
    coefficients : (n,) int array
        Below 2^53 in magnitude.
    values : (n,) float array
        Finite where the coefficient is not zero; not looked at elsewhere.
    """
    used = coefficients != 0
    c, x = coefficients[used].astype(np.float64), values[used]
    product = c * x
    c_high, c_low = _halves(c)
    x_high, x_low = _halves(x)
    error = ((c_high * x_high - product) + c_high * x_low + c_low * x_high) + c_low * x_low
    return math.fsum(np.concatenate([product, error]).tolist())


def _halves(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    high = _SPLIT * x
    high = high - (high - x)
    return high, x - high


@define(eq=False)
class ArraySum:
    """Sums of whole-number multiples of arrays, the same to the last bit in whatever order they are added.

    Each value is cut off below 2^-160 and held in whole numbers of 32 bits each; what is cut off is the same whatever
    the order, and far below the last bit of any result above 1e-30.

    Parameters
    ----------
    shape
        The first axis runs over several sums at once, the rest is the shape of each.
    """

    shape: tuple[int, ...]
    _limbs: NDArray[np.int64] = field(init=False)
    _load: int = field(default=0, init=False)

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

    def add_many(
        self,
        coefficients: Sequence[NDArray[np.int64]],
        values: Sequence[NDArray[np.float64]],
        places: Sequence[NDArray[np.intp]],
    ) -> None:
        """Do as :meth:`add` does for several arrays, in less time.

        Parameters
        ----------
        coefficients, values
            As above, for each array.
        places : int arrays
            Where in the remaining axes, counted in one row in C order, each of the values goes; no two of an array
            in one place.

        Raises
        ------
        ValueError
            As above.
        """
        flat = np.concatenate([array.ravel() for array in values])
        if not (np.abs(flat) < _LARGEST).all():
            raise ValueError(f"values must be finite and below 2^30 in magnitude; got {flat[np.abs(flat).argmax()]}")
        largest = [int(np.abs(multiples).max(initial=0)) for multiples in coefficients]
        if max(largest) >= _FULL:
            raise ValueError(f"coefficients must be below 2^29 in magnitude; got {max(largest)}")
        if sum(largest) >= _FULL:
            half = len(values) // 2
            self.add_many(coefficients[:half], values[:half], places[:half])
            self.add_many(coefficients[half:], values[half:], places[half:])
            return
        if self._load + sum(largest) > _FULL:
            self._carry()
        self._load += sum(largest)
        self._scatter(
            np.repeat(np.array(coefficients), [array.size for array in values], axis=0),
            _pieces(flat),
            np.concatenate([array.ravel() for array in places]),
        )

    def _scatter(self, coefficients: NDArray[np.int64], pieces: NDArray[np.int64], places: NDArray[np.intp]) -> None:
        """Add multiples (n, shape[0]) of what is cut in pieces (limbs, n) to the places (n,)."""
        for row in np.flatnonzero(coefficients.any(axis=0)):
            used = np.flatnonzero(coefficients[:, row])
            multiples, here = coefficients[used, row], places[used]
            for limb, piece in zip(self._limbs[:, row], pieces, strict=True):
                np.add.at(limb, here, multiples * piece[used])

    def total(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """The sum of some of the sums along the first axis, rounded once."""
        self._carry()
        flat = self._limbs[:, list(rows)].sum(axis=1).T
        whole = [sum(limb << (_LIMB_BITS * (_LIMBS - 1 - i)) for i, limb in enumerate(row)) for row in flat.tolist()]
        scale = 2 ** (_LIMB_BITS * (_LIMBS - 1))
        return np.array([value / scale for value in whole], dtype=np.float64).reshape(self.shape[1:])

    def _carry(self) -> None:
        for i in range(_LIMBS - 1, 0, -1):
            carry = self._limbs[i] >> _LIMB_BITS
            self._limbs[i] -= carry << _LIMB_BITS
            self._limbs[i - 1] += carry
        self._load = 1


def _pieces(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Values cut into whole numbers of 32 bits each, the first axis running from the whole part down."""
    pieces = np.empty((_LIMBS, *values.shape), dtype=np.int64)
    rest = values
    for i in range(_LIMBS):
        whole = np.trunc(rest)  # towards zero: what is left is exact also for small negative values
        pieces[i] = whole
        rest = (rest - whole) * 2.0**_LIMB_BITS
    return pieces
