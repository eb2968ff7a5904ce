"""What a program is given and what is taken from its answer, in QCSchema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from mbexec.core.errors import ProgramError

__all__ = ["further", "numbers", "own_copy"]

_SHAPES = {"energy": 0, "gradient": 1, "hessian": 2}


def own_copy(specification: Any) -> Any:
    """A copy for one calculation: some harnesses of QCEngine write into their input, and the next would see it."""
    return specification.model_copy(
        update={
            "model": specification.model.model_copy(),
            "keywords": deepcopy(specification.keywords) if specification.keywords else {},
            "extras": deepcopy(specification.extras) if specification.extras else {},
        }
    )


def numbers(answer: Any, driver: str, nat: int) -> dict[str, Any]:
    """Energy, gradient and Hessian of a result, those that are there, in full shape."""
    found: dict[str, Any] = {}
    for name, order in _SHAPES.items():
        value = getattr(answer.properties, f"return_{name}", None)
        if value is None and name == driver:
            value = answer.return_result
        if value is None:
            continue
        if order == 0:
            found[name] = float(value)
            finite = math.isfinite(found[name])
        else:
            shape = (nat, 3) if order == 1 else (3 * nat,) * order
            found[name] = np.array(value, dtype=np.float64).reshape(shape)
            finite = np.isfinite(found[name]).all()
        if not finite:
            raise ProgramError(f"The program reports success but its {name} is not a finite number: {value!r}.")
    if missing := [name for name in ("energy", driver) if name not in found]:
        raise ProgramError(f"The program reports success but gives no {missing[0]}.")
    return found


def further(answer: Any, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Properties besides those that a driver is for, by QCSchema's names."""
    found: dict[str, Any] = {}
    for name, shape in wanted.items():
        value = getattr(answer.properties, name)
        if value is None:
            raise ProgramError(f"The program reports success but gives no {name}, which mbe.properties asks for.")
        found[name] = np.array(value, dtype=np.float64).reshape(shape) if shape else float(value)
    return found
