"""Fragment results to a ``ManyBodyResult``: exact sums as they arrive, and QCManyBody's names for them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field
from numpy.typing import NDArray
from qcelemental.models.v2 import AtomicResult, FailedOperation
from qcmanybody.models.v2 import BsseEnum, ManyBodyResult
from qcmanybody.utils import modelchem_labels, print_nbody_energy

from mbexec import ArraySum, Plan, TaskError, TaskResult, exact_dot
from mbexec.plugins.manybody.extras import cluster_properties
from mbexec.plugins.manybody.planning import returns_total

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["merge", "nuclear_repulsion"]

_DERIVATIVES = {"gradient": 1, "hessian": 2}
_MOST_CLUSTERS = 10_000
_BATCH = 50_000  # numbers that wait to be added up: many take less time together, and they take some memory


def merge(plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
    """Add up results as they arrive; a FailedOperation if some are errors or missing."""
    sums = _Sums(plan)
    for result in results:
        sums.take(result)
    sums.add_waiting()
    missing = sums.missing()
    return _failed(plan, missing) if missing else _result(plan, sums)


@define(eq=False)
class _Sums:
    """What is kept of the results: all energies and the like, running sums of arrays, per-fragment data of small runs.

    What is as large for every fragment, an energy or a dipole moment, has a row a fragment.
    """

    plan: Plan
    fixed: dict[str, NDArray[np.float64]] = field(init=False)
    arrays: dict[str, ArraySum] = field(init=False)
    errors: dict[int, TaskError] = field(factory=dict)
    bodies: dict[int, bytes] = field(factory=dict)
    clusters: dict[int, Mapping[str, Any]] | None = field(init=False)
    _waiting: list[tuple[int, Mapping[str, Any]]] = field(factory=list)
    _count: int = 0
    _done: NDArray[np.bool_] = field(init=False)
    _coordinates: list[NDArray[np.intp]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        nat = len(self.plan.spec.molecule.symbols)
        nrow = len(self.plan.expansion.rows)
        driver = self.plan.spec.specification.driver.value
        wanted = [name for name in _DERIVATIVES if name in ("gradient", driver) and driver != "energy"]
        shapes = {"gradient": (nrow, nat, 3), "hessian": (nrow, 3 * nat, 3 * nat)}
        self.arrays = {name: ArraySum(shapes[name]) for name in wanted}
        sizes = {"energy": (), **self.plan.properties}
        self.fixed = {name: np.full((len(self.plan), *shape), np.nan) for name, shape in sizes.items()}
        self._done = np.zeros(len(self.plan), dtype=bool)
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
        if result.error is not None:
            self.errors[result.index] = result.error
            return
        self._done[result.index] = True
        for name, kept in self.fixed.items():
            kept[result.index] = result.values[name]
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

    def missing(self) -> dict[int, TaskError]:
        unknown = TaskError("unknown_error", "The fragment did not run.")
        return {int(i): self.errors.get(int(i), unknown) for i in np.flatnonzero(~self._done)}

    def through(self, name: str, bsse: str, nbody: int, start: int = 1) -> Any:
        """The sum of a property's contributions from `start` to `nbody` bodies."""
        if name in self.fixed:
            values = self.fixed[name]
            multiples = self.plan.expansion.total(bsse, nbody, start)
            rows = values.reshape(len(values), math.prod(values.shape[1:]))
            found = [exact_dot(multiples, column) for column in rows.T]
            return np.reshape(found, values.shape[1:]) if values.ndim > 1 else found[0]
        return self.arrays[name].total(self.plan.expansion.chosen(bsse, nbody, start))


def _failed(plan: Plan, missing: Mapping[int, TaskError]) -> FailedOperation:
    listed = [{"label": plan[i].label, **_as_dict(error)} for i, error in missing.items()]
    first = next(iter(missing.values()))
    return FailedOperation(
        input_data=plan.spec,
        error={
            "error_type": first.error_type,
            "error_message": f"{len(missing)} of {len(plan)} fragment calculations gave no result. "
            f"The first, {listed[0]['label']}: {first.error_message}",
            "extras": {"failed": listed},
        },
    )


def _as_dict(error: TaskError) -> dict[str, str]:
    return {"error_type": error.error_type, "error_message": error.error_message}


def _result(plan: Plan, sums: _Sums) -> ManyBodyResult:
    driver = plan.spec.specification.driver.value
    names = ["energy", *sums.arrays]
    returned = {name: _returned(plan, sums, name) for name in names}
    properties: dict[str, Any] = {
        "calcinfo_nmc": len(plan.expansion.mcs),
        "calcinfo_nfr": plan.expansion.sets.nfr,
        "calcinfo_natom": len(plan.spec.molecule.symbols),
        "calcinfo_nmbe": len(plan),
        "nuclear_repulsion_energy": nuclear_repulsion(plan.spec.molecule),
        **{f"return_{name}": value for name, value in returned.items()},
    }
    further: dict[str, Any] = {}
    for bsse in dict.fromkeys(row.bsse for row in plan.expansion.rows):
        for name in names:
            properties |= _properties(plan, sums, name, bsse)
        for name in plan.properties:
            further |= _properties(plan, sums, name, bsse)
    return ManyBodyResult(
        input_data=plan.spec,
        molecule=plan.spec.molecule,
        properties=properties,
        cluster_properties=_cluster_properties(plan, sums),
        cluster_results={plan[i].label: AtomicResult(**_decoded(body)) for i, body in sorted(sums.bodies.items())},
        provenance={"creator": "mbexec", "version": version("mbexec"), "routine": "mbexec.plugins.manybody"},
        return_result=returned[driver],
        stdout=_table(plan, sums),
        extras={"mbexec": {"properties": further}} if further else {},
        success=True,
    )


def _decoded(body: bytes) -> dict[str, Any]:
    from qcelemental.util import deserialize

    found: dict[str, Any] = deserialize(body.decode(), "json")
    return found


def _orders(plan: Plan, bsse: str) -> list[int]:
    return [row.nbody for row in plan.expansion.rows if row.bsse == bsse]


def _returned(plan: Plan, sums: _Sums, name: str) -> Any:
    """The property of the first BSSE treatment through the highest order."""
    bsse = plan.expansion.rows[0].bsse
    return sums.through(name, bsse, max(_orders(plan, bsse)), 1 if returns_total(plan.spec) else 2)


def _properties(plan: Plan, sums: _Sums, name: str, bsse: str) -> dict[str, Any]:
    """QCManyBody's named properties of one BSSE treatment.

    As there, totals are named only where the monomers' sum is not zero: zero stands for not computed.
    """
    orders = _orders(plan, bsse)
    highest = max(orders)
    monomers = sums.through(name, bsse, 1)
    interaction = {n: sums.through(name, bsse, n, 2) for n in orders}
    found = {f"{bsse}_corrected_interaction_{name}_through_{n}_body": value for n, value in interaction.items()}
    found[f"{bsse}_corrected_interaction_{name}"] = interaction[highest]
    for n in orders[1:]:
        if not plan.spec.specification.keywords.supersystem_ie_only or n == 2:
            found[f"{bsse}_corrected_{n}_body_contribution_to_{name}"] = sums.through(name, bsse, n, n)
    if np.count_nonzero(monomers):
        found |= {f"{bsse}_corrected_total_{name}_through_{n}_body": sums.through(name, bsse, n) for n in orders}
        found[f"{bsse}_corrected_total_{name}"] = sums.through(name, bsse, highest)
    return found


def _cluster_properties(plan: Plan, sums: _Sums) -> dict[str, dict[str, Any]]:
    """Each fragment's own numbers, arrays in the cluster's size, as far as they were kept."""
    nat = len(plan.spec.molecule.symbols)
    found = {}
    for index, values in sorted((sums.clusters or {}).items()):
        properties: dict[str, Any] = {"calcinfo_natom": nat, "return_energy": values["energy"]}
        for name in sums.arrays:
            full = np.zeros((nat, 3) if name == "gradient" else (3 * nat, 3 * nat))
            full.flat[sums.places(index, name)] = values[name]
            properties[f"return_{name}"] = full
        found[plan[index].label] = properties | {name: values[name] for name in plan.properties}
    return found


def _table(plan: Plan, sums: _Sums) -> str:
    """QCManyBody's text table."""
    rows = plan.expansion.rows
    by_mc: dict[str, list[int | str]] = {mc: [] for mc in plan.expansion.mcs}
    for row in [row for row in rows if row.bsse == rows[0].bsse]:
        by_mc[row.mc].append("supersystem" if row.supersystem else row.nbody)
    supersystem = any(row.supersystem for row in rows)
    text = ""
    for bsse in dict.fromkeys(row.bsse for row in rows):
        text += print_nbody_energy(
            {n: sums.through("energy", bsse, n) for n in _orders(plan, bsse)},
            f"{BsseEnum(bsse).formal()} ({BsseEnum(bsse).abbr()})",
            plan.expansion.sets.nfr,
            modelchem_labels(by_mc, presorted=True),
            False,
            bool(plan.spec.specification.keywords.supersystem_ie_only),
            max(row.nbody for row in rows if not row.supersystem) if supersystem else None,
        )
    return text


def nuclear_repulsion(molecule: Molecule) -> float:
    """Coulomb repulsion of the real nuclei, E_h."""
    z = np.where(molecule.real, molecule.atomic_numbers, 0).astype(np.float64)
    energy = 0.0
    for i in range(1, len(z)):
        distance = np.sqrt(((molecule.geometry[:i] - molecule.geometry[i]) ** 2).sum(axis=1))
        energy += float((z[i] * z[:i] / distance).sum())
    return energy
