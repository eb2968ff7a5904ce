"""From psi4's numbers to QCSchema."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from qcelemental.models.v2 import AtomicInput, AtomicResult
from qcengine.config import TaskConfig

from mbexec_psi4.run import Outcome

__all__ = ["make_result"]

# QCSchema's name -> psi4's variable
_ENERGIES = {
    "return_energy": "CURRENT ENERGY",
    "nuclear_repulsion_energy": "NUCLEAR REPULSION ENERGY",
    "scf_one_electron_energy": "ONE-ELECTRON ENERGY",
    "scf_two_electron_energy": "TWO-ELECTRON ENERGY",
    "scf_total_energy": "SCF TOTAL ENERGY",
    "scf_xc_energy": "DFT XC ENERGY",
    "scf_vv10_energy": "DFT VV10 ENERGY",
    "scf_dispersion_correction_energy": "DISPERSION CORRECTION ENERGY",
    "mp2_same_spin_correlation_energy": "MP2 SAME-SPIN CORRELATION ENERGY",
    "mp2_opposite_spin_correlation_energy": "MP2 OPPOSITE-SPIN CORRELATION ENERGY",
    "mp2_correlation_energy": "MP2 CORRELATION ENERGY",
    "mp2_total_energy": "MP2 TOTAL ENERGY",
    "ccsd_correlation_energy": "CCSD CORRELATION ENERGY",
    "ccsd_total_energy": "CCSD TOTAL ENERGY",
    "ccsd_prt_pr_correlation_energy": "CCSD(T) CORRELATION ENERGY",
    "ccsd_prt_pr_total_energy": "CCSD(T) TOTAL ENERGY",
}
_COUNTS = ("calcinfo_nbasis", "calcinfo_nmo", "calcinfo_nalpha", "calcinfo_nbeta")
# psi4 sets these to zero where there are none.
_SKIP_ZERO = ("scf_xc_energy", "scf_vv10_energy", "scf_dispersion_correction_energy")


def make_result(
    input_data: AtomicInput, request: dict[str, Any], answer: dict[str, Any], outcome: Outcome, config: TaskConfig
) -> AtomicResult:
    """Put an answer under QCSchema's names.

    Parameters
    ----------
    input_data : AtomicInput
        What was asked for.
    request : dict
        What psi4 was told.
    answer : dict
        psi4's numbers.
    outcome : Outcome
        What psi4 printed is used.
    config : TaskConfig
        What psi4 was given is noted.

    Returns
    -------
    AtomicResult
        With energy, and with every lower derivative that psi4 computed on its way.
    """
    driver = input_data.specification.driver.value
    properties = _properties(answer, driver, len(input_data.molecule.symbols))
    return AtomicResult(
        input_data=input_data,
        molecule=input_data.molecule,
        properties=properties,
        return_result=properties[f"return_{driver}"],
        stdout=outcome.output or None,
        stderr=outcome.printed or None,
        native_files={"input": json.dumps(request, indent=1)},
        provenance={
            "creator": "Psi4",
            "version": answer["version"],
            "routine": f"psi4.{driver}",
            "memory": round(config.memory, 3),
            "nthreads": config.ncores,
        },
        extras={"qcvars": answer["variables"], "mbexec_psi4_version": _own_version()},
    )


@functools.cache
def _own_version() -> str:
    return version("mbexec-psi4")


def _properties(answer: Mapping[str, Any], driver: str, nat: int) -> dict[str, Any]:
    variables = answer["variables"]
    known = {name: variables.get(variable) for name, variable in _ENERGIES.items()}
    known |= {name: known[name] or None for name in _SKIP_ZERO}
    known |= {name: answer[name] for name in _COUNTS}
    known |= {"calcinfo_natom": nat, "scf_dipole_moment": _dipole(answer)}
    if iterations := variables.get("SCF ITERATIONS"):
        known["scf_iterations"] = int(iterations)
    gradient = answer["value"] if driver == "gradient" else answer["gradient"]
    if driver == "energy":
        known["return_energy"] = answer["value"]
    if gradient is not None:
        known["return_gradient"] = np.reshape(gradient, (nat, 3))
    if driver == "hessian":
        known["return_hessian"] = np.reshape(answer["value"], (3 * nat, 3 * nat))
    return known


def _dipole(answer: Mapping[str, Any]) -> list[float] | None:
    """Of the SCF, in e a0; psi4 1.3 keeps it in debye."""
    found = [answer["variables"].get(f"SCF DIPOLE {axis}") for axis in "XYZ"]
    return None if None in found else [value / answer["debye"] for value in found]
