"""What ``model.method`` may say, with which reference, and which derivatives there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyscf.dft import libxc
from qcengine.exceptions import InputError

__all__ = ["Method", "check_derivative", "read_method"]

_HARTREE_FOCK = {"hf": None, "scf": None, "rhf": "rhf", "uhf": "uhf", "rohf": "rohf"}
_CORRELATED = ("mp2", "ccsd", "ccsd(t)")
_DRIVERS = ("energy", "gradient", "hessian")

# b3lyp-d3bj, wb97x-d, b97_d, pbeh-3c: PySCF would leave the dispersion out, or need another package for it.
_DISPERSION = re.compile(r"[-_](d(\d\w*)?|3c)$")


@dataclass(frozen=True)
class Method:
    """A method and its reference.

    Parameters
    ----------
    name : str
        hf, mp2, ccsd or ccsd(t), or a functional.
    reference : str
        rhf, uhf or rohf; for a functional these stand for Kohn-Sham's rks, uks and roks.
    xc : str, optional
        The functional, as PySCF takes it.
    """

    name: str
    reference: str
    xc: str | None = None

    @property
    def correlated(self) -> bool:
        """Whether a correlation energy is added to Hartree-Fock's."""
        return self.name in _CORRELATED


def read_method(name: str, reference: str | None, multiplicity: float) -> Method:
    """Resolve method and reference.

    Parameters
    ----------
    name : str
        ``model.method`` of the input.
    reference : str, optional
        The keyword; without it singlets are rhf and open shells uhf.
    multiplicity : float
        Of the molecule.

    Returns
    -------
    Method
        With its reference filled in.

    Raises
    ------
    InputError
        Unknown method, or a reference that the method or the molecule cannot have.
    """
    name = name.strip().lower()
    xc = None if name in _HARTREE_FOCK or name in _CORRELATED else _functional(name)
    reference = _agreed(name, reference, xc) or ("rhf" if multiplicity == 1 else "uhf")
    if reference == "rhf" and multiplicity != 1:
        raise InputError(
            f"A restricted reference needs a singlet, and the multiplicity is {multiplicity:g}; "
            "use reference='uhf' or 'rohf'."
        )
    if reference == "rohf" and name in _CORRELATED:
        raise InputError(f"{name} with reference='rohf' is not offered; use 'rhf' for singlets or 'uhf'.")
    return Method("hf" if name in _HARTREE_FOCK else name, reference, xc)


def _agreed(name: str, reference: str | None, xc: str | None) -> str | None:
    """The one reference that method and keyword agree on, if either names one."""
    implied = _HARTREE_FOCK.get(name)
    if reference is None:
        return implied
    if reference.endswith("ks") and xc is None:
        raise InputError(
            f"reference={reference!r} goes with a density functional, and the method is {name!r}; "
            "use 'rhf', 'uhf' or 'rohf'."
        )
    plain = reference.replace("ks", "hf")
    if implied not in (None, plain):
        raise InputError(
            f"The method {name!r} contradicts reference={reference!r}; give the method as 'hf', or leave reference out."
        )
    return plain


def _functional(name: str) -> str:
    if _DISPERSION.search(name):
        raise InputError(
            f"The method {name!r} asks for a dispersion correction, which is not offered here; run the functional "
            "alone and add the dispersion with a program of its own, such as dftd4 or s-dftd3."
        )
    try:
        hybrid, parts = libxc.parse_xc(name)
    except Exception as err:  # KeyError, ValueError, NotImplementedError, AssertionError by the kind of typo
        raise InputError(_unknown(name)) from err
    if not (parts or any(hybrid)) or name.isdigit():
        raise InputError(_unknown(name))
    return name


def _unknown(name: str) -> str:
    return (
        f"PySCF knows no method {name!r}. Use hf (or scf, rhf, uhf, rohf), {', '.join(_CORRELATED)}, or a density "
        "functional by PySCF's name for it, such as 'pbe', 'b3lyp' or 'wb97x-v'."
    )


def check_derivative(method: Method, driver: str, density_fit: bool) -> None:
    """Refuse a driver that has no analytic derivative.

    Parameters
    ----------
    method : Method
        Resolved method.
    driver : str
        energy, gradient, hessian or properties.
    density_fit : bool
        Whether integrals are fitted.

    Raises
    ------
    InputError
        Names the method, the driver and the drivers there are.
    """
    available = _DRIVERS[: 1 + _highest_derivative(method, density_fit)]
    if driver not in available:
        fitted = " with density fitting" if density_fit else ""
        raise InputError(
            f"There is no {driver} of {method.name} ({method.reference} reference{fitted}) here; "
            f"available: {', '.join(available)}."
        )


def _highest_derivative(method: Method, density_fit: bool) -> int:
    if method.correlated:
        # PySCF 2.14 differentiates exact integrals where they are fitted (pyscf issue 3425), and its gradient of
        # unrestricted CCSD(T) is off by 1e-4 to 1e-3 E_h/a0 (pyscf issue 3305): both silently.
        return 0 if density_fit or (method.name, method.reference) == ("ccsd(t)", "uhf") else 1
    return 1 if method.reference == "rohf" else 2
