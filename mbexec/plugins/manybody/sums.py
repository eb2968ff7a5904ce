"""What is kept of the fragments' results: running sums as they arrive, and QCManyBody's names for the sums."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from mbexec import ArraySum, Plan, TaskError, TaskResult, exact_dot
from mbexec.plugins.manybody.extras import cluster_properties
from mbexec.plugins.manybody.planning import returns_total

__all__ = ["NamedSum", "Sums", "named_sums", "orders", "returned_sum", "treatments"]

_DERIVATIVES = {"gradient": 1, "hessian": 2}
_MOST_CLUSTERS = 10_000
_BATCH = 50_000  # numbers that wait to be added up: many take less time together, and they take some memory


@frozen
class NamedSum:
    """The contributions of `start` to `through` bodies in a BSSE treatment, all added up."""

    bsse: str
    through: int
    start: int = 1


def treatments(plan: Plan) -> list[str]:
    """The BSSE treatments of a plan."""
    return list(dict.fromkeys(row.bsse for row in plan.expansion.rows))


def orders(plan: Plan, bsse: str) -> list[int]:
    """The n-bodies that have a contribution, in rising order."""
    return [row.nbody for row in plan.expansion.rows if row.bsse == bsse]


def returned_sum(plan: Plan) -> NamedSum:
    """What a result returns: the first BSSE treatment through the highest order, with the monomers or without."""
    bsse = treatments(plan)[0]
    return NamedSum(bsse, max(orders(plan, bsse)), 1 if returns_total(plan.spec) else 2)


def named_sums(plan: Plan, name: str, bsse: str, *, totals: bool) -> dict[str, NamedSum]:
    """QCManyBody's names for the sums of a property in one BSSE treatment, with its totals or without."""
    found = orders(plan, bsse)
    highest = max(found)
    sums = {f"{bsse}_corrected_interaction_{name}_through_{n}_body": NamedSum(bsse, n, 2) for n in found}
    sums[f"{bsse}_corrected_interaction_{name}"] = NamedSum(bsse, highest, 2)
    for n in found[1:]:
        if not plan.spec.specification.keywords.supersystem_ie_only or n == 2:
            sums[f"{bsse}_corrected_{n}_body_contribution_to_{name}"] = NamedSum(bsse, n, n)
    if totals:
        sums |= {f"{bsse}_corrected_total_{name}_through_{n}_body": NamedSum(bsse, n) for n in found}
        sums[f"{bsse}_corrected_total_{name}"] = NamedSum(bsse, highest)
    return sums


@define(eq=False)
class Sums:
    """What is kept of the results: all energies and the like, running sums of arrays, per-fragment data of small runs.

    What is as large for every fragment, an energy or a dipole moment, has a row a fragment; zero where there is none.
    """

    plan: Plan
    fixed: dict[str, NDArray[np.float64]] = field(init=False)
    done: NDArray[np.bool_] = field(init=False)
    arrays: dict[str, ArraySum] = field(init=False)
    errors: dict[int, TaskError] = field(factory=dict)
    bodies: dict[int, bytes] = field(factory=dict)
    notes: dict[int, tuple[str, ...]] = field(factory=dict)
    clusters: dict[int, Mapping[str, Any]] | None = field(init=False)
    _waiting: list[tuple[int, Mapping[str, Any]]] = field(factory=list)
    _count: int = 0
    _coordinates: list[NDArray[np.intp]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        nat = len(self.plan.spec.molecule.symbols)
        nrow = len(self.plan.expansion.rows)
        driver = self.plan.spec.specification.driver.value
        wanted = [name for name in _DERIVATIVES if name in ("gradient", driver) and driver != "energy"]
        shapes = {"gradient": (nrow, nat, 3), "hessian": (nrow, 3 * nat, 3 * nat)}
        self.arrays = {name: ArraySum(shapes[name]) for name in wanted}
        sizes = {"energy": (), **self.plan.properties}
        self.fixed = {name: np.zeros((len(self.plan), *shape)) for name, shape in sizes.items()}
        self.done = np.zeros(len(self.plan), dtype=bool)
        fragments = self.plan.spec.molecule.fragments
        self._coordinates = [3 * np.asarray(atoms)[:, None] + np.arange(3) for atoms in fragments]
        kept = cluster_properties(self.plan.spec)
        too_many = kept == "auto" and len(self.plan) > _MOST_CLUSTERS
        self.clusters = None if too_many or kept == "none" else {}
        if too_many:
            warnings.warn(
                f"The result will not hold the properties of each of the {len(self.plan):,} fragment calculations, "
                f"only their sums; beyond {_MOST_CLUSTERS:,}, "
                'set mbe.cluster_properties to "all" to have them (or to "none").',
                stacklevel=2,
            )

    def take(self, result: TaskResult) -> None:
        """Note a result, as much of it as the sums need."""
        if result.error is not None:
            self.errors[result.index] = result.error
            return
        self.done[result.index] = True
        for name, kept in self.fixed.items():
            kept[result.index] = result.values[name]
        if result.notes:
            self.notes[result.index] = result.notes
        if result.body is not None:
            self.bodies[result.index] = result.body
        for name in [name for name in self.arrays if name not in result.values]:
            del self.arrays[name]  # a Hessian run of a program that gives no gradient with it
        if self.arrays:
            self._waiting.append((result.index, result.values))
        self._count += sum(result.values[name].size for name in self.arrays)
        if self._count >= _BATCH:
            self.add_waiting()
        if self.clusters is not None:
            self.clusters[result.index] = result.values

    def add_waiting(self) -> None:
        """Add up the arrays that came since the last time."""
        multiples = [self.plan.expansion.coefficients[index] for index, _ in self._waiting]
        for name, total in self.arrays.items() if self._waiting else ():
            places = [self.places(index, name) for index, _ in self._waiting]
            total.add_many(multiples, [values[name] for _, values in self._waiting], places)
        self._waiting.clear()
        self._count = 0

    def places(self, index: int, name: str) -> NDArray[np.intp]:
        """Where in the cluster's array, counted in one row, the values of a task go; in their shape."""
        expansion = self.plan.expansion
        coordinates = np.concatenate([self._coordinates[i - 1] for i in expansion.sets[int(expansion.bas[index])]])
        if name == "gradient":
            return coordinates
        width = 3 * len(self.plan.spec.molecule.symbols)
        pairs: NDArray[np.intp] = width * coordinates.reshape(-1, 1) + coordinates.ravel()
        return pairs

    def through(self, name: str, which: NamedSum) -> Any:
        """A sum of what is there of a property."""
        if name in self.fixed:
            values = self.fixed[name]
            multiples = self.plan.expansion.total(which.bsse, which.through, which.start)
            rows = values.reshape(len(values), math.prod(values.shape[1:]))
            found = [exact_dot(multiples, column) for column in rows.T]
            return np.reshape(found, values.shape[1:]) if values.ndim > 1 else found[0]
        return self.arrays[name].total(self.plan.expansion.chosen(which.bsse, which.through, which.start))
