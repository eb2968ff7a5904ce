"""Fragment results to a ``ManyBodyResult``, or to a ``FailedOperation`` with what is known all the same."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qcelemental.models.v2 import AtomicProperties, AtomicResult, FailedOperation
from qcmanybody.models.v2 import BsseEnum, ManyBodyResult
from qcmanybody.utils import modelchem_labels, print_nbody_energy

from mbexec import Plan, TaskError, TaskResult
from mbexec.plugins.manybody.motions import with_duplicates
from mbexec.plugins.manybody.partial import partial_result
from mbexec.plugins.manybody.sums import NamedSum, Sums, named_sums, orders, returned_sum, treatments
from mbexec.plugins.manybody.tail import in_words, left_out

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["merge", "nuclear_repulsion"]

_TILE = 256  # atoms; what is in between fits into the cache
_version = lru_cache(version)  # which reads a file
_CLUSTERS = 512  # arrays of fragments that are brought to the cluster's size at a time


def merge(plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
    """Add up results as they arrive; a FailedOperation if some are errors or missing."""
    sums = Sums(plan)
    sums.take(with_duplicates(plan, results))
    return _failed(sums.plan, sums) if sums.missing.any() else _result(sums.plan, sums)


def _failed(plan: Plan, sums: Sums) -> FailedOperation:
    failed = _errors(plan, sums)
    told = f"{int(sums.missing.sum())} of {_wanted(plan, sums)} fragment calculations gave no result."
    if failed:
        told += f" The first, {failed[0]['label']}: {failed[0]['error_message']}"
    return FailedOperation(
        input_data=plan.spec,
        error={
            "error_type": failed[0]["error_type"] if failed else "unknown_error",
            "error_message": told if failed else f"{told} They did not run.",
            "extras": {"failed": failed, "partial": partial_result(plan, sums), **_screening(sums)},
        },
    )


def _errors(plan: Plan, sums: Sums) -> list[dict[str, Any]]:
    """What there is to tell of each calculation that ran and failed."""
    runs = plan.runs
    return [_failure(plan, i, error) for i, error in sorted(sums.errors.items()) if runs[i]]


def _failure(plan: Plan, index: int, error: TaskError) -> dict[str, Any]:
    """With how many others that it stands for."""
    others = 0 if plan.symmetry is None else len(plan.symmetry.places(index))
    told = {"label": plan[index].label, "error_type": error.error_type, "error_message": error.error_message}
    return told | ({"duplicates": others} if others else {})


def _wanted(plan: Plan, sums: Sums) -> int:
    """How many calculations there are without those that screening left out."""
    return len(plan) - (0 if sums.choice is None else int(sums.choice.needless.sum()))


def _screening(sums: Sums) -> dict[str, Any]:
    return {} if sums.choice is None else {"screening": sums.choice.summary}


def _result(plan: Plan, sums: Sums) -> ManyBodyResult:
    driver = plan.spec.specification.driver.value
    names = ["energy", *sums.arrays]
    returned = {name: sums.through(name, returned_sum(plan)) for name in names}
    properties: dict[str, Any] = {
        "calcinfo_nmc": len(plan.expansion.mcs),
        "calcinfo_nfr": plan.expansion.sets.nfr,
        "calcinfo_natom": len(plan.spec.molecule.symbols),
        "calcinfo_nmbe": _wanted(plan, sums),
        "nuclear_repulsion_energy": nuclear_repulsion(plan.spec.molecule),
        **{f"return_{name}": value for name, value in returned.items()},
    }
    further: dict[str, Any] = {}
    missed = left_out(plan, sums.fixed["energy"], sums.choice)
    for bsse in treatments(plan):
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
        provenance={"creator": "mbexec", "version": _version("mbexec"), "routine": "mbexec.plugins.manybody"},
        return_result=returned[driver],
        stdout=_table(plan, sums) + in_words(missed),
        extras=_extras(plan, sums, further, missed),
        success=True,
    )


def _extras(plan: Plan, sums: Sums, properties: dict[str, Any], missed: list[dict[str, Any]]) -> dict[str, Any]:
    """What QCSchema has no word for: further sums, what is to be known of single calculations, what is left out."""
    notes = {plan[i].label: list(said) for i, said in sorted(sums.notes.items())}
    told = {"properties": properties, "notes": notes, "left_out": missed, "failed": _errors(plan, sums)}
    told |= _screening(sums) | {"symmetry": _symmetry(plan)}
    own = {name: value for name, value in told.items() if value}
    return {"mbexec": own} if own else {}


def _symmetry(plan: Plan) -> dict[str, Any]:
    """How many calculations were unique, and how far the others' atoms are from where theirs were put, a0."""
    if plan.symmetry is None:
        return {}
    return {"unique": int(plan.runs.sum()), "largest_deviation": plan.symmetry.deviation}


def _decoded(body: bytes) -> dict[str, Any]:
    from qcelemental.util import deserialize

    found: dict[str, Any] = deserialize(body.decode(), "json")
    return found


def _properties(plan: Plan, sums: Sums, name: str, bsse: str) -> dict[str, Any]:
    """QCManyBody's named properties of one BSSE treatment.

    As there, totals are named only where the monomers' sum is not zero: zero stands for not computed.
    """
    totals = bool(np.count_nonzero(sums.through(name, NamedSum(bsse, 1))))
    named = named_sums(plan, name, bsse, totals=totals)
    values = {which: sums.through(name, which) for which in dict.fromkeys(named.values())}
    return {key: copy.copy(values[which]) for key, which in named.items()}


def _cluster_properties(plan: Plan, sums: Sums) -> dict[str, AtomicProperties]:
    """Each fragment's own numbers, arrays in the cluster's size, as far as they were kept.

    They were checked when they arrived; not to have the models do it again takes a fraction of the time.
    """
    empty = AtomicProperties(calcinfo_natom=len(plan.spec.molecule.symbols))
    clusters = sums.clusters or {}
    order = np.array(sorted(clusters), dtype=np.int64)
    found = {}
    for start in range(0, len(order), _CLUSTERS):
        here = order[start : start + _CLUSTERS]
        arrays = dict(sums.full(here))
        for task in plan.tasks(here):
            values = clusters[task.index]
            fields = {"return_energy": values["energy"], **{name: values[name] for name in plan.properties}}
            fields |= {f"return_{name}": array for name, array in arrays.get(task.index, {}).items()}
            found[task.label] = empty.model_copy(update=fields)
    return found


def _table(plan: Plan, sums: Sums) -> str:
    """QCManyBody's text table."""
    rows = plan.expansion.rows
    by_mc: dict[str, list[int | str]] = {}
    for row in [row for row in rows if row.bsse == rows[0].bsse]:
        by_mc.setdefault(row.mc, []).append("supersystem" if row.supersystem else row.nbody)
    supersystem = plan.expansion.has_supersystem
    text = ""
    for bsse in treatments(plan):
        text += print_nbody_energy(
            {n: sums.through("energy", NamedSum(bsse, n)) for n in orders(plan, bsse)},
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
    parts = [slice(start, start + _TILE) for start in range(0, len(z), _TILE)]
    tiles = [(a, b) for a in parts for b in parts if b.start <= a.start]
    return math.fsum(_repulsion(z[a], z[b], molecule.geometry[a], molecule.geometry[b], same=a == b) for a, b in tiles)


def _repulsion(
    z: NDArray[np.float64],
    others: NDArray[np.float64],
    places: NDArray[np.float64],
    elsewhere: NDArray[np.float64],
    *,
    same: bool,
) -> float:
    """Repulsion between two groups of nuclei, or within one; places are (n, 3), a0."""
    squared = np.zeros((len(z), len(others)))
    for here, there in zip(places.T, elsewhere.T, strict=True):
        squared += (here[:, None] - there) ** 2
    if same:
        squared[np.triu_indices(len(z))] = np.inf
    return float(z @ (1 / np.sqrt(squared)) @ others)
