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
        self._limbs = np.zeros((*self.shape, _LIMBS), dtype=np.int64)

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
        if not (np.abs(values) < _LARGEST).all():
            raise ValueError(
                f"values must be finite and below 2^30 in magnitude; got {values.flat[np.abs(values).argmax()]}"
            )
        pieces = _pieces(values)
        largest = int(np.abs(coefficients).max(initial=0))
        if largest >= _FULL:
            raise ValueError(f"coefficients must be below 2^29 in magnitude; got {largest}")
        if self._load + largest > _FULL:
            self._carry()
        self._load += largest
        for row in np.flatnonzero(coefficients):
            self._limbs[row][where or ...] += coefficients[row] * pieces

    def total(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """The sum of some of the sums along the first axis, rounded once."""
        self._carry()
        flat = self._limbs[list(rows)].sum(axis=0).reshape(-1, _LIMBS)
        whole = [sum(limb << (_LIMB_BITS * (_LIMBS - 1 - i)) for i, limb in enumerate(row)) for row in flat.tolist()]
        scale = 2 ** (_LIMB_BITS * (_LIMBS - 1))
        return np.array([value / scale for value in whole], dtype=np.float64).reshape(self.shape[1:])

    def _carry(self) -> None:
        for i in range(_LIMBS - 1, 0, -1):
            carry = self._limbs[..., i] >> _LIMB_BITS
            self._limbs[..., i] -= carry << _LIMB_BITS
            self._limbs[..., i - 1] += carry
        self._load = 1


def _pieces(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Values cut into whole numbers of 32 bits each, the last axis running from the whole part down."""
    pieces = np.empty((*values.shape, _LIMBS), dtype=np.int64)
    rest = values
    for i in range(_LIMBS):
        whole = np.trunc(rest)  # towards zero: what is left is exact also for small negative values
        pieces[..., i] = whole
        rest = (rest - whole) * 2.0**_LIMB_BITS
    return pieces
