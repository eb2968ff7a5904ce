"""PySCF behind QCEngine's interface: an ``AtomicInput`` in, an ``AtomicResult`` out."""

# QCEngine carries no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import pyscf
from numpy.typing import NDArray
from qcelemental.models.v2 import AtomicInput, AtomicResult
from qcelemental.util import safe_version, which_import
from qcengine.config import TaskConfig
from qcengine.exceptions import InputError, QCEngineException, RandomError, ResourceError, UnknownError
from qcengine.programs.model import ProgramHarness

from mbexec_pyscf.correlation import run_correlation
from mbexec_pyscf.keywords import Keywords, read_keywords
from mbexec_pyscf.methods import Method, check_derivative, read_method
from mbexec_pyscf.molecule import build_mole
from mbexec_pyscf.scf import run_scf, scf_gradient, scf_hessian, scf_properties
from mbexec_pyscf.threads import thread_limits

__all__ = ["PySCFHarness"]


class PySCFHarness(ProgramHarness):
    """PySCF as a QCEngine program named ``pyscf``.

    Hartree-Fock, density functionals, MP2, CCSD and CCSD(T); energies, gradients and Hessians; ghost atoms. It
    may be called from several threads at once.
    """

    ghosts: ClassVar[str] = "honoured"
    _defaults: ClassVar[dict[str, Any]] = {
        "name": "pyscf",
        "scratch": False,
        "thread_safe": True,
        "thread_parallel": True,
        "node_parallel": False,
        "managed_memory": True,
    }

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Whether PySCF can be imported.

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
                "pyscf",
                return_bool=True,
                raise_error=raise_error,
                raise_msg="Please install via `pip install mbexec-pyscf`.",
            )
        )

    def get_version(self) -> str:
        """PySCF's version."""
        return _pyscf_version()

    def compute(self, input_data: AtomicInput, config: TaskConfig) -> AtomicResult:
        """Run one calculation.

        Parameters
        ----------
        input_data : AtomicInput
            QCSchema v2.
        config : TaskConfig
            ``ncores`` and ``memory`` (GiB) are used.

        Returns
        -------
        AtomicResult
            With energy, and with every lower derivative of the one asked for.

        Raises
        ------
        InputError
            What is asked for is impossible, misspelt or not offered.
        ConvergenceError
            SCF or coupled cluster did not converge.
        ResourceError, RandomError, UnknownError
            Out of memory; the disk failed; PySCF failed otherwise.
        """
        with _qcengine_errors(input_data), thread_limits(config.ncores):
            return _compute(input_data, config)


@functools.cache
def _pyscf_version() -> str:
    return str(safe_version(pyscf.__version__))


@functools.cache
def _own_version() -> str:
    return version("mbexec-pyscf")


@contextmanager
def _qcengine_errors(input_data: AtomicInput) -> Iterator[None]:
    """Turn what PySCF raises into QCEngine's exceptions."""
    model, driver = input_data.specification.model, input_data.specification.driver.value
    task = f"the {driver} of {model.method}/{model.basis}"
    try:
        yield
    except QCEngineException:
        raise
    except NotImplementedError as err:
        message = f"PySCF cannot do {task}: {err or 'it is not implemented'}; choose another method or driver."
        raise InputError(message) from err
    except MemoryError as err:
        message = f"PySCF ran out of memory in {task} ({err}); raise the memory of the task configuration."
        raise ResourceError(message) from err
    except OSError as err:
        message = f"PySCF could not read or write a file in {task}: {err}; look at its scratch directory."
        raise RandomError(message) from err
    except Exception as err:
        raise UnknownError(f"PySCF failed in {task}: {type(err).__name__}: {err}") from err


def _compute(input_data: AtomicInput, config: TaskConfig) -> AtomicResult:
    spec, molecule = input_data.specification, input_data.molecule
    driver = spec.driver.value
    _refuse_wavefunction(spec.protocols.wavefunction)
    keywords = read_keywords(spec.keywords)
    method = read_method(spec.model.method, keywords.reference, molecule.molecular_multiplicity)
    check_derivative(method, driver, keywords.density_fit)
    out = io.StringIO()
    mol = build_mole(molecule, spec.model.basis, keywords, config.memory, out)
    properties = _properties(mol, method, driver, keywords)
    return AtomicResult(
        input_data=input_data,
        molecule=molecule,
        properties=properties,
        return_result=properties[f"return_{driver}"],
        stdout=out.getvalue() if keywords.verbose else None,
        provenance={"creator": "PySCF", "version": _pyscf_version(), "routine": _routine(method)},
        extras={"mbexec_pyscf_version": _own_version()},
    )


def _refuse_wavefunction(protocol: Any) -> None:
    if protocol != "none":
        raise InputError(
            f"The protocol wavefunction={protocol.value!r} is not supported with PySCF; leave it at 'none'."
        )


def _properties(mol: Any, method: Method, driver: str, keywords: Keywords) -> dict[str, Any]:
    """Energy and derivatives up to ``driver``, under QCSchema's names."""
    mf = run_scf(mol, method, keywords)
    properties = scf_properties(mf)
    properties["return_energy"] = properties["scf_total_energy"]
    gradient: Callable[[], NDArray[np.float64]] = functools.partial(scf_gradient, mf)
    if method.correlated:
        correlated = run_correlation(mf, method.name, keywords)
        gradient = correlated.gradient
        properties |= correlated.properties | {"return_energy": correlated.energy}
    if driver != "energy":
        properties["return_gradient"] = gradient()
    if driver != "energy" and not method.correlated:
        properties["scf_total_gradient"] = properties["return_gradient"]
    if driver == "hessian":
        properties["return_hessian"] = properties["scf_total_hessian"] = scf_hessian(mf)
    return properties


def _routine(method: Method) -> str:
    if method.correlated:
        return {"mp2": "pyscf.mp.MP2", "ccsd": "pyscf.cc.CCSD", "ccsd(t)": "pyscf.cc.CCSD(T)"}[method.name]
    if method.xc:
        return f"pyscf.dft.{method.reference.upper().replace('HF', 'KS')}"
    return f"pyscf.scf.{method.reference.upper()}"
