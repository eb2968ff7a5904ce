"""Whether two runs gave the same, to the last bit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexec.core.messages import gist

if TYPE_CHECKING:
    from mbexec.core.engine import RunResult

__all__ = ["Numbers", "difference_between", "failure_in", "numbers_of"]

Numbers = dict[str, Any]


def failure_in(found: RunResult) -> str:
    """How many fragments failed, and the first of them in the program's words."""
    failed = found.result.error.extras["failed"]
    first = f"{failed[0]['label']}: {gist(failed[0]['error_message'])}"
    return f"{len(failed)} of {len(found.plan)} fragment calculations failed, the first of them {first}"


def numbers_of(found: RunResult) -> Numbers:
    """Every number of a result by what it is: of fragments, then of the cluster."""
    energies = zip(found.plan, found.energies.tolist(), strict=True)
    named: Numbers = {f"the energy of {task.label}": energy for task, energy in energies}
    for label, properties in (found.result.cluster_properties or {}).items():
        named |= {f"{key} of {label}": value for key, value in properties.model_dump().items()}
    named |= found.result.properties.model_dump()
    named |= (found.result.extras or {}).get("mbexec", {}).get("properties", {})
    return {name: np.asarray(value) for name, value in named.items() if not isinstance(value, str)}


def difference_between(expected: Numbers, given: Numbers) -> tuple[str, float, int]:
    """The first number that differs, the greatest difference, how many differ; infinite where a number is missing."""
    differing = {}
    for name in dict.fromkeys([*expected, *given]):
        one, other = expected.get(name), given.get(name)
        if one is None or other is None or one.shape != other.shape:
            differing[name] = math.inf
        elif one.tobytes() != other.tobytes():
            differing[name] = float(np.max(np.abs(one - other)))
    return next(iter(differing), ""), max(differing.values(), default=0.0), len(differing)
