"""Fragment results to a ``ManyBodyResult``, or to a ``FailedOperation`` with what is known all the same."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from qcelemental.models.v2 import AtomicResult, FailedOperation
from qcmanybody.models.v2 import BsseEnum, ManyBodyResult
from qcmanybody.utils import modelchem_labels, print_nbody_energy

from mbexec import Plan, TaskResult
from mbexec.plugins.manybody.partial import partial_result
from mbexec.plugins.manybody.sums import NamedSum, Sums, named_sums, orders, returned_sum, treatments

if TYPE_CHECKING:
    from qcelemental.models.v2 import Molecule

__all__ = ["merge", "nuclear_repulsion"]


def merge(plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
    """Add up results as they arrive; a FailedOperation if some are errors or missing."""
    sums = Sums(plan)
    for result in results:
        sums.take(result)
    sums.add_waiting()
    return _result(plan, sums) if sums.done.all() else _failed(plan, sums)


def _failed(plan: Plan, sums: Sums) -> FailedOperation:
    failed = [
        {"label": plan[i].label, "error_type": error.error_type, "error_message": error.error_message}
        for i, error in sorted(sums.errors.items())
    ]
    told = f"{int((~sums.done).sum())} of {len(plan)} fragment calculations gave no result."
    if failed:
        told += f" The first, {failed[0]['label']}: {failed[0]['error_message']}"
    return FailedOperation(
        input_data=plan.spec,
        error={
            "error_type": failed[0]["error_type"] if failed else "unknown_error",
            "error_message": told if failed else f"{told} They did not run.",
            "extras": {"failed": failed, "partial": partial_result(plan, sums)},
        },
    )


def _result(plan: Plan, sums: Sums) -> ManyBodyResult:
    driver = plan.spec.specification.driver.value
    names = ["energy", *sums.arrays]
    returned = {name: sums.through(name, returned_sum(plan)) for name in names}
    properties: dict[str, Any] = {
        "calcinfo_nmc": len(plan.expansion.mcs),
        "calcinfo_nfr": plan.expansion.sets.nfr,
        "calcinfo_natom": len(plan.spec.molecule.symbols),
        "calcinfo_nmbe": len(plan),
        "nuclear_repulsion_energy": nuclear_repulsion(plan.spec.molecule),
        **{f"return_{name}": value for name, value in returned.items()},
    }
    further: dict[str, Any] = {}
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
        provenance={"creator": "mbexec", "version": version("mbexec"), "routine": "mbexec.plugins.manybody"},
        return_result=returned[driver],
        stdout=_table(plan, sums),
        extras=_extras(plan, sums, further),
        success=True,
    )


def _extras(plan: Plan, sums: Sums, properties: dict[str, Any]) -> dict[str, Any]:
    """What QCSchema has no word for: sums of further properties, and what is to be known of single calculations."""
    notes = {plan[i].label: list(said) for i, said in sorted(sums.notes.items())}
    own = {name: value for name, value in (("properties", properties), ("notes", notes)) if value}
    return {"mbexec": own} if own else {}


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


def _cluster_properties(plan: Plan, sums: Sums) -> dict[str, dict[str, Any]]:
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


def _table(plan: Plan, sums: Sums) -> str:
    """QCManyBody's text table."""
    rows = plan.expansion.rows
    by_mc: dict[str, list[int | str]] = {mc: [] for mc in plan.expansion.mcs}
    for row in [row for row in rows if row.bsse == rows[0].bsse]:
        by_mc[row.mc].append("supersystem" if row.supersystem else row.nbody)
    supersystem = any(row.supersystem for row in rows)
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
    energy = 0.0
    for i in range(1, len(z)):
        distance = np.sqrt(((molecule.geometry[:i] - molecule.geometry[i]) ** 2).sum(axis=1))
        energy += float((z[i] * z[:i] / distance).sum())
    return energy
