"""tblite behind QCEngine's interface: an ``AtomicInput`` in, an ``AtomicResult`` out."""

# QCEngine carries no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any, ClassVar

from qcelemental.models.v2 import AtomicInput, AtomicResult
from qcelemental.util import which_import
from qcengine.config import TaskConfig
from qcengine.exceptions import InputError
from qcengine.programs.model import ProgramHarness
from tblite import library
from tblite.interface import Result

from mbexec_tblite.calculator import converge, read_method
from mbexec_tblite.keywords import read_keywords
from mbexec_tblite.system import System, real_system
from mbexec_tblite.threads import thread_limits

__all__ = ["TBLiteHarness"]

_DRIVERS = ("energy", "gradient")


class TBLiteHarness(ProgramHarness):
    """tblite as a QCEngine program named ``tblite``.

    GFN1-xTB, GFN2-xTB and IPEA1-xTB; energies and gradients of the real atoms. It may be called from several
    threads at once.
    """

    ghosts: ClassVar[str] = "stripped"
    _defaults: ClassVar[dict[str, Any]] = {
        "name": "tblite",
        "scratch": False,
        "thread_safe": True,
        "thread_parallel": True,
        "node_parallel": False,
        "managed_memory": False,
    }

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Whether tblite can be imported.

        Parameters
        ----------
        raise_error : bool, optional
            Raise ``ModuleNotFoundError`` where it cannot.

        Returns
        -------
        bool
            True if it can.
        """
        return bool(
            which_import(
                "tblite",
                return_bool=True,
                raise_error=raise_error,
                raise_msg="Please install via `pip install mbexec-tblite`.",
            )
        )

    def get_version(self) -> str:
        """Version of tblite."""
        return _tblite_version()

    def compute(self, input_data: AtomicInput, config: TaskConfig) -> AtomicResult:
        """Run one calculation.

        Parameters
        ----------
        input_data : AtomicInput
            QCSchema v2.
        config : TaskConfig
            ``ncores`` is used.

        Returns
        -------
        AtomicResult
            The gradient has a row for each atom, zero for ghosts.

        Raises
        ------
        InputError
            What is asked for is impossible, misspelt or not offered.
        ConvergenceError
            The SCF did not converge.
        UnknownError
            tblite failed otherwise.
        """
        spec, molecule = input_data.specification, input_data.molecule
        driver = spec.driver.value
        _refuse_others(driver, spec.protocols.wavefunction)
        method = read_method(spec.model.method, spec.model.basis)
        keywords = read_keywords(spec.keywords)
        system = real_system(molecule)
        lines: list[str] = []
        with thread_limits(config.ncores):
            result = converge(system, method, keywords, lines.append)
        properties = _properties(result, system, driver)
        return AtomicResult(
            input_data=input_data,
            molecule=molecule,
            properties=properties,
            return_result=properties[f"return_{driver}"],
            stdout="\n".join(lines) or None,
            provenance={"creator": "tblite", "version": _tblite_version(), "routine": f"tblite.{method}"},
            extras={"mbexec_tblite_version": _own_version()},
        )


@functools.cache
def _tblite_version() -> str:
    return ".".join(map(str, library.get_version()))


@functools.cache
def _own_version() -> str:
    return version("mbexec-tblite")


def _refuse_others(driver: str, wavefunction: Any) -> None:
    if driver not in _DRIVERS:
        raise InputError(f"There is no {driver} of xTB here; available: {', '.join(_DRIVERS)}.")
    if wavefunction != "none":
        raise InputError(
            f"The protocol wavefunction={wavefunction.value!r} is not supported with tblite; leave it at 'none'."
        )


def _properties(result: Result, system: System, driver: str) -> dict[str, Any]:
    """What tblite gives, under QCSchema's names.

    Nothing there fits the repulsion of xTB, which is not that of nuclei, or electrons without the core's.
    """
    energy, norbitals = float(result.get("energy")), int(result.get("norbitals"))
    properties = {
        "calcinfo_natom": len(system.real),
        "calcinfo_nbasis": norbitals,
        "calcinfo_nmo": norbitals,
        "scf_total_energy": energy,
        "return_energy": energy,
        "scf_dipole_moment": result.get("dipole"),
    }
    if driver == "gradient":
        gradient = system.padded(result.get("gradient"))
        properties |= {"scf_total_gradient": gradient, "return_gradient": gradient}
    return properties
