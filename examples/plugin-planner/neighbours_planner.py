"""A planner that counts only pairs of fragments that are near each other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from attrs import define
from qcelemental.models.v2 import FailedOperation
from qcmanybody.models.v2 import ManyBodyResult

from mbexec import Expansion, InputError, Plan, RunConfig, TaskResult, exact_dot, hookimpl

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput


@define(eq=False)
class Neighbours:
    """Monomers, and pairs of fragments with atoms closer than a cutoff; the interaction energy is theirs alone.

    Attributes
    ----------
    cutoff
        Greatest distance between two fragments' nearest atoms, a0.
    """

    cutoff: float

    @hookimpl
    def build_tasks(self, spec: ManyBodyInput, config: RunConfig) -> Plan:
        """Each fragment, and each near pair, in its own basis."""
        if spec.specification.driver != "energy":
            raise InputError("The neighbours planner knows energies only.")
        (mc,) = spec.specification.specification
        atoms = [spec.molecule.geometry[fragment] for fragment in spec.molecule.fragments]
        numbers = range(1, len(atoms) + 1)
        near = [
            pair for pair in combinations(numbers, 2) if self._distance(*(atoms[i - 1] for i in pair)) < self.cutoff
        ]
        sets = [(i,) for i in numbers] + near
        return Plan(spec, Expansion.from_tasks(len(atoms), [(mc, each, each) for each in sets]))

    def _distance(self, first: np.ndarray, second: np.ndarray) -> float:
        return float(np.linalg.norm(first[:, None] - second[None], axis=-1).min())

    @hookimpl
    def merge_results(self, plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
        """Pairs less their monomers."""
        energies = np.full(len(plan), np.nan)
        errors = []
        for result in results:
            if result.error is not None:
                errors.append({"error_type": result.error.error_type, "error_message": result.error.error_message})
            else:
                energies[result.index] = result.values["energy"]
        if np.isnan(energies).any():
            stopped = {"error_type": "unknown_error", "error_message": "The run was stopped before all fragments ran."}
            return FailedOperation(input_data=plan.spec, error=[*errors, stopped][0])
        pairs = [task.frag for task in plan if task.nbody == 2]
        coefficients = [1 if task.nbody == 2 else -sum(task.frag[0] in pair for pair in pairs) for task in plan]
        energy = exact_dot(np.array(coefficients), energies)
        return ManyBodyResult(
            input_data=plan.spec,
            molecule=plan.spec.molecule,
            properties={"return_energy": energy},
            cluster_properties={},
            cluster_results={},
            return_result=energy,
            provenance={"creator": "neighbours-planner", "version": "0.2"},
            success=True,
        )
