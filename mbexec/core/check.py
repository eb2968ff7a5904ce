"""Whether a result is one: what an executor or a store gives is looked at before it gets into a sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mbexec.core.types import Task, TaskResult

__all__ = ["ResultCheck"]

_ENERGY: list[tuple[str, tuple[int, ...]]] = [("energy", ())]  # needed of all, and so the only value if there is one


class ResultCheck:
    """Knows how large each task's arrays must be.

    Attributes
    ----------
    needed, wanted
        Names of what a result must have, and of those among them that not every run asks for.

    Parameters
    ----------
    driver
        energy, gradient or hessian.
    sizes
        Atoms of each fragment.
    properties
        What else each result must have, and in which shape.
    """

    def __init__(self, driver: str, sizes: list[int], properties: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self._properties = properties or {}
        self.needed = tuple(dict.fromkeys(("energy", driver, *self._properties)))
        self.wanted = tuple(self._properties)
        self._sizes = sizes

    def problem(self, task: Task, result: TaskResult) -> str | None:
        """What is wrong with a result, in words that follow "a result with"; None if nothing is.

        Arrays of a good result are made read-only: reporters see them too.
        """
        if result.error is not None:
            return None
        if not isinstance(result.values, Mapping):
            return f"values of type {type(result.values).__name__}"
        if missing := [name for name in self.needed if name not in result.values]:
            return f"no {missing[0]}"
        for name, shape in self._shapes(task).items() if len(result.values) > 1 else _ENERGY:
            if name in result.values and not _is_numbers(result.values[name], shape):
                what = f"{shape} finite numbers" if shape else "a finite number"
                return f"{'an' if name == 'energy' else 'a'} {name} that is not {what}"
        return None

    def _shapes(self, task: Task) -> dict[str, tuple[int, ...]]:
        nat = sum([self._sizes[i - 1] for i in task.bas])
        return {"energy": (), "gradient": (nat, 3), "hessian": (3 * nat, 3 * nat), **self._properties}


def _is_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return isinstance(value, (float, np.floating)) and math.isfinite(value)
    good = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.shape == shape
    if good:
        value.setflags(write=False)
    return bool(good and np.isfinite(value).all())
