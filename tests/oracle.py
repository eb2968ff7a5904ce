"""QCManyBody as an oracle: its results for given numbers of the fragments, and how results are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from qcmanybody.models.v2 import ManyBodyInput, ManyBodyResult
from qcmanybody.v2 import ManyBodyComputer

from mbexec import Plan, TaskResult
from mbexec.plugins.manybody import ManyBody

Numbers = Mapping[str, Mapping[str, Any]]  # energy, gradient and Hessian of each fragment calculation, by its label

OWN = ("provenance", "stdout", "cluster_results")  # compared in other ways, or not the same by intention
MADE_UP = '["dummy", [1000], [1000]]'  # QCManyBody's stand-in where there is nothing to compute


def merged(plan: Plan, numbers: Numbers) -> ManyBodyResult:
    """What mbexec makes of the numbers."""
    return ManyBody().merge_results(plan, [TaskResult(task.index, numbers[task.label]) for task in plan])


def analyzed(spec: ManyBodyInput, numbers: Numbers) -> ManyBodyResult:
    """What QCManyBody's computer and its ManyBodyCore.analyze make of the numbers, all of which it must need."""
    computer = ManyBodyComputer.from_manybodyinput(spec, build_tasks=False)
    wanted = [label for _, label, _ in computer.qcmb_core.iterate_molecules()]
    answer = computer.qcmb_core.analyze({label: dict(numbers[label]) for label in wanted})
    return computer.get_results(external_results={**answer, "nbody_number": len(wanted)}, component_results={})


def assert_equal(ours: ManyBodyResult, theirs: ManyBodyResult, tolerance: float = 1e-12) -> None:
    """Every field: properties, cluster properties, the returned result; nothing left out on either side."""
    mine, other = ours.model_dump(exclude=set(OWN)), theirs.model_dump(exclude=set(OWN))
    other["cluster_properties"].pop(MADE_UP, None)
    _assert_same(mine, other, tolerance, "")
    assert ours.provenance.creator == "mbexec"


def _assert_same(mine: Any, other: Any, tolerance: float, where: str) -> None:
    if isinstance(other, dict):
        assert isinstance(mine, dict), where
        assert set(mine) == set(other), f"{where}: {set(mine) ^ set(other)}"
        for key in other:
            _assert_same(mine[key], other[key], tolerance, f"{where}.{key}")
    elif isinstance(other, (float, np.ndarray)):
        assert np.shape(mine) == np.shape(other), where
        if np.asarray(other).dtype.kind == "f":
            np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance, err_msg=where)
        else:
            np.testing.assert_array_equal(mine, other, err_msg=where)
    elif isinstance(other, (list, tuple)):
        assert len(mine) == len(other), where
        for place, (left, right) in enumerate(zip(mine, other, strict=True)):
            _assert_same(left, right, tolerance, f"{where}[{place}]")
    else:
        assert mine == other, where


def assert_same_table(ours: str, theirs: str) -> None:
    """The same words in the same places; of the twelve digits shown, the last three depend on rounding."""
    number = re.compile(r"-?\d+\.\d{12}")
    assert number.sub("#", _aligned(ours)) == number.sub("#", _aligned(theirs))
    left, right = ([float(word) for word in number.findall(text)] for text in (ours, theirs))
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-9)


def _aligned(text: str) -> str:
    """Without the blanks that a sign more or less takes: zero may be -0."""
    return re.sub(r" +", " ", text)
