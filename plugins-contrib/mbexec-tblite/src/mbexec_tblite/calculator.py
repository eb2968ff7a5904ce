"""One calculation by tblite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcengine.exceptions import ConvergenceError, InputError, QCEngineException, UnknownError
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from mbexec_tblite.keywords import Keywords
from mbexec_tblite.system import System, check_orbitals

__all__ = ["METHODS", "converge", "read_method"]

METHODS = ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB")

_KELVIN = 3.166808578545117e-6  # E_h, as tblite has it
_UNCONVERGED = "SCF not converged"
_BAD_MOLECULE = ("Too close interatomic distances", "not compatible", "No support for elements")


def read_method(name: str, basis: object) -> str:
    """Resolve the method.

    Parameters
    ----------
    name : str
        ``model.method`` of the input, in any case.
    basis : object
        ``model.basis``; None or empty.

    Returns
    -------
    str
        As tblite spells it.

    Raises
    ------
    InputError
        Unknown method, or a basis where there is none to choose.
    """
    method = {known.lower(): known for known in METHODS}.get(name.strip().lower())
    if method is None:
        raise InputError(f"tblite knows no method {name!r}. Use one of {', '.join(METHODS)}.")
    if basis:
        raise InputError(f"{method} brings its own basis, and model.basis is {basis!r}; leave the basis out.")
    return method


def converge(system: System, method: str, keywords: Keywords, log: Callable[[str], None]) -> Result:
    """Compute energy and gradient.

    Parameters
    ----------
    system : System
        The real atoms.
    method : str
        As tblite spells it.
    keywords : Keywords
        All are used.
    log : callable
        Takes each line that tblite prints.

    Returns
    -------
    Result
        tblite's.

    Raises
    ------
    ConvergenceError
        The charges did not converge within ``max_iter`` iterations.
    InputError
        Atoms on top of each other, or electrons that do not fit into the orbitals.
    UnknownError
        tblite failed otherwise.
    """
    try:
        calculator = _calculator(system, method, keywords, log)
        if system.unpaired or system.charge < 0:
            check_orbitals(system, len(calculator.get("orbital-map")))
        return calculator.singlepoint()
    except TBLiteRuntimeError as err:
        raise _failure(str(err), method, keywords) from err


def _calculator(system: System, method: str, keywords: Keywords, log: Callable[[str], None]) -> Calculator:
    calculator = Calculator(
        method, system.numbers, system.positions, system.charge, system.unpaired, color=False, logger=log
    )
    for name, value in _settings(keywords).items():
        calculator.set(name, value)
    return calculator


def _settings(keywords: Keywords) -> dict[str, Any]:
    """What is set, under tblite's names and in its units."""
    settings = {
        "verbosity": int(keywords.verbosity),
        "accuracy": float(keywords.accuracy),
        "max-iter": int(keywords.max_iter),
    }
    if keywords.electronic_temperature is not None:
        settings["temperature"] = float(keywords.electronic_temperature) * _KELVIN
    return settings


def _failure(said: str, method: str, keywords: Keywords) -> QCEngineException:
    if _UNCONVERGED in said:
        return ConvergenceError(
            f"tblite's SCF of {method} did not converge in {keywords.max_iter} iterations "
            f"(accuracy={keywords.accuracy:g}). Raise max_iter or electronic_temperature, or loosen accuracy."
        )
    if any(words in said for words in _BAD_MOLECULE):
        return InputError(
            f"tblite refuses the molecule: {said.rstrip('.')}. Look at its geometry, charge and multiplicity."
        )
    return UnknownError(f"tblite failed in {method}: {said}")
