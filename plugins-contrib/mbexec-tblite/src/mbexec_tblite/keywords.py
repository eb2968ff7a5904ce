"""The keywords a calculation takes: their defaults, and the sentences for what is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from qcengine.exceptions import InputError

__all__ = ["Keywords", "read_keywords"]


@dataclass(frozen=True)
class Keywords:
    """What a calculation may be told.

    Parameters
    ----------
    accuracy : float
        Scales tblite's thresholds: the SCF stops when the energy changes by less than 1e-6 E_h and the density by
        less than 2e-5, both times this number. tblite's own default is 1, which leaves gradients with errors of
        some 1e-6 E_h/a0; with 0.001 they are below 1e-8.
    max_iter : int
        SCF iterations.
    electronic_temperature : float, K, optional
        Of the occupation of orbitals; None is tblite's own, 9.5e-4 E_h or 300 K.
    verbosity : int
        tblite's print level; what it prints becomes the result's ``stdout``.
    """

    accuracy: float = 0.001
    max_iter: int = 250
    electronic_temperature: float | None = None
    verbosity: int = 0


def _integer(low: int, high: int) -> Callable[[object], bool]:
    def _check(value: object) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high

    return _check


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0.0 < float(value) < math.inf


# tblite counts iterations in 32 bits.
_MOST_ITERATIONS = 2**31 - 1

# keyword -> what it accepts, as a test and in words
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "accuracy": (_is_positive, "a positive number"),
    "max_iter": (_integer(1, _MOST_ITERATIONS), "a whole number of at least 1"),
    "electronic_temperature": (_is_positive, "a positive number, in K"),
    "verbosity": (_integer(0, 9), "a whole number from 0 (quiet) to 9"),
}


def read_keywords(given: Mapping[str, Any]) -> Keywords:
    """Check the keywords of an input and fill in the defaults.

    Parameters
    ----------
    given : mapping
        ``specification.keywords`` of an ``AtomicInput``.

    Returns
    -------
    Keywords
        Every keyword, given or default.

    Raises
    ------
    InputError
        A keyword is unknown, or has a value it does not take.
    """
    for name, value in given.items():
        _check(name, value)
    return Keywords(**given)


def _check(name: str, value: object) -> None:
    if name not in _RULES:
        raise InputError(_unknown(name))
    accepts, words = _RULES[name]
    if not accepts(value):
        raise InputError(f"The keyword {name} cannot be {value!r}: it takes {words}.")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _RULES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"tblite takes no keyword {name!r} here.{hint} Known keywords: {', '.join(_RULES)}."
