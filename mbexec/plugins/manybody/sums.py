"""What is kept of the fragments' results: running sums as they arrive, and QCManyBody's names for the sums."""

from __future__ import annotations

import math
import warnings
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from mbexec import ArraySum, Plan, TaskError, TaskResult, exact_dot
from mbexec.plugins.manybody.extras import cluster_properties, energy_screen
from mbexec.plugins.manybody.layout import Layout, stacked
from mbexec.plugins.manybody.planning import returns_total
from mbexec.plugins.manybody.screening import Choice, choose

__all__ = ["NamedSum", "Sums", "named_sums", "orders", "returned_sum", "treatments"]

_DERIVATIVES = {"gradient": 1, "hessian": 2}
_MOST_CLUSTERS = 10_000
_MOST_BYTES = 100_000_000  # of their arrays, which have the cluster's size
# What waits to be added up: many take less time together, and they take some memory.
_NUMBERS = 200_000


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
    choice: Choice | None = field(default=None, init=False)
    fixed: dict[str, NDArray[np.float64]] = field(init=False)
    done: NDArray[np.bool_] = field(init=False)
    arrays: dict[str, ArraySum] = field(init=False)
    errors: dict[int, TaskError] = field(factory=dict)
    bodies: dict[int, bytes] = field(factory=dict)
    notes: dict[int, tuple[str, ...]] = field(factory=dict)
    clusters: dict[int, Mapping[str, Any]] | None = field(init=False)
    _most: int = field(init=False)
    _widths: array[int] = field(init=False)
    _layout: Layout = field(init=False)
    _open: int = field(init=False)  # tasks that decide which others run, and have given no result yet
    _held: list[tuple[NDArray[np.int64], Sequence[Mapping[str, Any]]]] = field(factory=list)
    _found: dict[tuple[str, NamedSum], Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        nat = len(self.plan.spec.molecule.symbols)
        nrow = len(self.plan.expansion.rows)
        driver = self.plan.spec.specification.driver.value
        wanted = [name for name in _DERIVATIVES if name in ("gradient", driver) and driver != "energy"]
        shapes = {"gradient": (nrow, nat, 3), "hessian": (nrow, 3 * nat, 3 * nat)}
        self.arrays = {name: ArraySum(shapes[name]) for name in wanted}
        self._most = max([_NUMBERS, *(4 * math.prod(shapes[name][1:]) for name in wanted)])
        sizes = {"energy": (), **self.plan.properties}
        self.fixed = {name: np.zeros((len(self.plan), *shape)) for name, shape in sizes.items()}
        self.done = np.zeros(len(self.plan), dtype=bool)
        self._layout = Layout.of(self.plan)
        self._widths = array("q", self._layout.numbers(list(self.arrays)).tobytes())
        self._open = 0 if energy_screen(self.plan.spec) is None else int((~self.plan.undecided).sum())
        self.clusters = {} if self._keeps_clusters() else None

    def _keeps_clusters(self) -> bool:
        """Whether the result is to hold what each calculation gave; warns where "auto" says no."""
        kept, count = cluster_properties(self.plan.spec), len(self.plan)
        size = 8 * count * sum(math.prod(total.shape[1:]) for total in self.arrays.values())
        if kept != "auto" or (count <= _MOST_CLUSTERS and size <= _MOST_BYTES):
            return kept != "none"
        arrays = f", whose arrays would take {size / 1e9:,.1f} GB in the size of the cluster" if self.arrays else ""
        warnings.warn(
            f"The result will not hold the properties of each of the {count:,} fragment calculations{arrays}; only "
            f"their sums. Beyond {_MOST_CLUSTERS:,} calculations or {_MOST_BYTES / 1e9:g} GB, "
            'set mbe.cluster_properties to "all" to have them (or to "none").',
            stacklevel=4,
        )
        return False

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which tasks have given no result and count in some sum, (ntask,)."""
        if self.choice is None:
            return ~self.done
        return ~self.done & self.plan.expansion.coefficients.any(axis=1)

    def take(self, results: Iterable[TaskResult]) -> None:
        """Add up results as they arrive, many at a time; choose, once all that decides is there.

        Numbers wait to be added up, and not the results, which may hold much else.
        """
        indices: list[int] = []
        values: list[Mapping[str, Any]] = []
        numbers, most, widths = 0, self._most, self._widths
        for result in results:
            index = result.index
            if result.error is None:
                indices.append(index)
                values.append(result.values)
                if result.notes or result.body is not None:
                    self._keep_words(result)
            else:
                self.errors[index] = result.error
            numbers += widths[index]
            last = self._open and self._counted_down(index)
            if numbers >= most or last:
                self._keep(indices, values)
                indices, values, numbers = [], [], 0
                if last:
                    self._choose()
                if not self._open:
                    self._add_held()
        self._keep(indices, values)
        self._add_held()

    def _counted_down(self, index: int) -> bool:
        """Count a result if it helps to decide which others run; whether it is the last of those."""
        self._open -= not self.plan.undecided[index]
        return not self._open

    def _choose(self) -> None:
        self.choice = choose(self.plan, np.where(self.done & ~self.plan.undecided, self.fixed["energy"], np.nan))
        if self.choice is not None:
            self.plan = self.choice.plan
            self._warn_of_cheap_failures(self.choice.screen.program)

    def _warn_of_cheap_failures(self, program: str) -> None:
        """A screen that fails leaves everything to the dear program, which may take far longer than planned."""
        expansion = self.plan.expansion
        cheap = expansion.mc == expansion.mcs.index(program)
        failed = [index for index in sorted(self.errors) if cheap[index]]
        if failed:
            words = self.errors[failed[0]].error_message.strip().splitlines()[-1:]
            warnings.warn(
                f"{len(failed):,} of {int(cheap.sum()):,} calculations of {program!r}, which screens, failed, and all "
                f"that they are part of is computed. The first, {self.plan[failed[0]].label}: {''.join(words)}",
                stacklevel=5,
            )

    def increments(self, bsse: str, name: str) -> dict[int, NDArray[np.float64]]:
        """What each fragment set adds beyond its subsets, or what counts for that, (n_k,) by order; NaN if unknown."""
        values = np.where(self.done, self.fixed[name], np.nan)
        found = self.plan.expansion.increments_by_order(bsse, values)
        if self.choice is not None:
            self.choice.fill_in(found, values, counted=True)
        return found

    def _add_held(self) -> None:
        for where, values in self._held:
            self._add(where, values)
        self._held.clear()

    def _keep_words(self, result: TaskResult) -> None:
        """Keep what a result has beside numbers."""
        if result.notes:
            self.notes[result.index] = result.notes
        if result.body is not None:
            self.bodies[result.index] = result.body

    def _keep(self, indices: Sequence[int], values: Sequence[Mapping[str, Any]]) -> None:
        """Note what is as large for every fragment, and of small runs everything; hold arrays to be added."""
        if not indices:
            return
        where = np.array(indices)
        self.done[where] = True
        for name, kept in self.fixed.items():
            kept[where] = list(map(itemgetter(name), values))
        if self.clusters is not None:
            self.clusters.update(zip(indices, values, strict=True))
        if self.arrays:
            self._held.append((where, values))

    def _add(self, where: NDArray[np.int64], values: Sequence[Mapping[str, Any]]) -> None:
        """Add arrays to their sums."""
        if "hessian" in self.arrays and not all("gradient" in found for found in values):
            self.arrays.pop("gradient", None)  # the program gives none with a Hessian
        given = {name: list(map(itemgetter(name), values)) for name in self.arrays}
        for places, coordinates in self._layout.blocks(where) if self.arrays else ():
            for name, total in self.arrays.items():
                total.add_many(
                    self.plan.expansion.coefficients[where[places]],
                    stacked([given[name][place] for place in places.tolist()]),
                    self._layout.places(name, coordinates),
                )

    def full(self, where: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, NDArray[np.float64]]]]:
        """The arrays of the tasks whose values were kept, in the size of the cluster; in any order."""
        clusters = self.clusters or {}
        for places, coordinates in self._layout.blocks(where):
            chosen = where[places].tolist()
            arrays = {}
            for name, total in self.arrays.items():
                shape = total.shape[1:]
                whole = np.zeros((len(chosen), math.prod(shape)))
                spots = self._layout.places(name, coordinates).reshape(len(chosen), -1)
                values = stacked([clusters[index][name] for index in chosen])
                whole.ravel()[spots + whole.shape[1] * np.arange(len(chosen))[:, None]] = values.reshape(spots.shape)
                arrays[name] = whole.reshape(-1, *shape)
            for place, index in enumerate(chosen):
                yield index, {name: whole[place] for name, whole in arrays.items()}

    def through(self, name: str, which: NamedSum) -> Any:
        """A sum of what is there of a property; nobody may change it."""
        if (name, which) not in self._found:
            self._found[name, which] = self._through(name, which)
        return self._found[name, which]

    def _through(self, name: str, which: NamedSum) -> Any:
        if name in self.fixed:
            values = self.fixed[name]
            multiples = self.plan.expansion.total(which.bsse, which.through, which.start)
            rows = values.reshape(len(values), math.prod(values.shape[1:]))
            found = [exact_dot(multiples, column) for column in rows.T]
            return np.reshape(found, values.shape[1:]) if values.ndim > 1 else found[0]
        return self.arrays[name].total(self.plan.expansion.chosen(which.bsse, which.through, which.start))
