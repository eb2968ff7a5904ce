"""How good each energy is, by what its program is told of convergence, and whether the sums come out good enough.

Programs stop on two thresholds: the change e of the energy, and a norm g of the orbital gradient. Where the energy is
stationary (Hartree-Fock, density functionals, xTB) its error is about g^2, or e where that is less. A correlated energy
is not stationary in the orbitals: its error is about 0.01 g, and g is below the root of e. The factors are the largest
that turned up for water clusters, rounded up. Of programs and keywords that are not known here, nothing is said.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mbexec.core.cost import is_correlated, is_iterative

if TYPE_CHECKING:
    from qcelemental.models.v2 import AtomicSpecification

    from mbexec.core.types import Plan

__all__ = ["ACCURACY", "Convergence", "convergence", "model_of", "sums", "warn_of_errors"]

ACCURACY = 1e-6  # E_h; what sums should be good to
_EXACT = frozenset({"dftd3", "dftd4", "gcp", "mctc-gcp", "model-potential", "mp2d", "s-dftd3"})
_FIRST_ORDER = 0.01
_ROUNDING = 1e-12  # E_h; what arithmetic leaves of energies of some hundred E_h
_SLOPE = 0.01  # E_h/a0; of the energy near a minimum


@frozen
class Convergence:
    """How far a model chemistry converges its energies.

    Attributes
    ----------
    error
        Expected of each energy, E_h.
    thresholds
        Keywords that decide it, with their values.
    """

    error: float
    thresholds: Mapping[str, float]

    @property
    def told(self) -> str:
        """The thresholds in words."""
        return ", ".join(f"{name} = {value:g}" for name, value in self.thresholds.items())


@frozen
class _Thresholds:
    """The keywords of a calculation; notes which of them were asked for, and can tighten all of them."""

    given: Mapping[str, Any]
    tighter: float = 1.0
    asked: dict[str, float] = field(factory=dict)

    def __call__(self, name: str, default: float) -> float:
        value = self.given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{name} = {value!r} is no threshold.")
        self.asked[name] = value / self.tighter
        return value / self.tighter


_Rule = Callable[[_Thresholds, bool, bool], float]  # keywords, whether correlated, whether coupled cluster or like it


def _scf(energy: float, gradient: float, correlated: bool) -> float:
    return _FIRST_ORDER * min(gradient, energy**0.5) if correlated else min(energy, gradient**2)


def _pyscf(threshold: _Thresholds, correlated: bool, iterative: bool) -> float:
    error = _scf(threshold("conv_tol", 1e-10), threshold("conv_tol_grad", 1e-7), correlated)
    if not iterative:
        return error
    amplitudes = _FIRST_ORDER * threshold("cc_conv_tol_normt", 1e-8)
    return max(error, min(threshold("cc_conv_tol", 1e-10), amplitudes))


def _psi4(threshold: _Thresholds, correlated: bool, iterative: bool) -> float:
    default = 1e-8 if correlated else 1e-6
    energy = threshold("e_convergence", default)
    error = _scf(energy, 30 * threshold("d_convergence", default), correlated)  # a mean over orbital pairs, not a norm
    return max(error, min(energy, _FIRST_ORDER * threshold("r_convergence", 1e-7))) if iterative else error


def _tblite(threshold: _Thresholds, correlated: bool, iterative: bool) -> float:
    accuracy = threshold("accuracy", 0.001)
    return _scf(1e-6 * accuracy, 2.5e-5 * accuracy, correlated)


def _nwchem_scf(threshold: _Thresholds, correlated: bool, iterative: bool) -> float:
    gradient = threshold("scf__thresh", 1e-6 if correlated else 1e-4)
    screening = min(1e-7, 0.02 * gradient)  # integrals below are left out, and the energy is no better
    error = max(gradient**2, screening)
    return max(error, threshold("ccsd__thresh", 1e-6)) if iterative else error


def _nwchem_dft(threshold: _Thresholds, correlated: bool, iterative: bool) -> float:
    return 0.05 * threshold("dft__convergence__energy", 1e-6)


def _rule(specification: AtomicSpecification) -> _Rule | None:
    program, method = specification.program.lower(), specification.model.method.lower()
    if program == "nwchem":
        known = is_correlated(specification) or method in ("hf", "scf")
        return _nwchem_scf if known else _nwchem_dft
    rules: dict[str, _Rule] = {"pyscf": _pyscf, "psi4": _psi4, "tblite": _tblite}
    return rules.get(program)


def convergence(specification: AtomicSpecification, tighter: float = 1.0) -> Convergence | None:
    """How far energies converge, with all thresholds divided by `tighter`; None where that is not known."""
    if specification.program.lower() in _EXACT:
        return Convergence(0.0, {})
    rule = _rule(specification)
    if rule is None:
        return None
    given = {name.lower(): value for name, value in specification.keywords.items()}
    if specification.program.lower() == "psi4":
        given = {name: 10.0**-value if _is_exponent(value) else value for name, value in given.items()}
    threshold = _Thresholds(given, tighter)
    try:
        error = rule(threshold, is_correlated(specification), is_iterative(specification))
    except ValueError:
        return None
    return Convergence(max(error, _ROUNDING), threshold.asked)


def _is_exponent(value: Any) -> bool:
    """psi4 takes 8 for 1e-8."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 20


def model_of(plan: Plan, label: str) -> str:
    """A model chemistry in words, such as ``high: pyscf mp2/cc-pvdz``."""
    found = plan.spec.specification.specification[label]
    basis = f"/{found.model.basis}" if found.model.basis else ""
    name = "" if label == "(auto)" else f"{label}: "
    return f"{name}{found.program} {found.model.method}{basis}"


def sums(plan: Plan) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """The energies that a plan adds up: their names, and treatment, highest and lowest order of each."""
    for bsse in dict.fromkeys(row.bsse for row in plan.expansion.rows):
        highest = max(row.nbody for row in plan.expansion.rows if row.bsse == bsse)
        if plan.amplification(bsse, 1)[0]:  # cp without total data has no monomers in their own basis
            yield f"{bsse} total", (bsse, highest, 1)
        if highest > 1:
            yield f"{bsse} interaction", (bsse, highest, 2)


def warn_of_errors(plan: Plan) -> None:
    """Warn of what is too loose for one of the sums to be good to `ACCURACY`: convergence, or symmetry's tolerance."""
    for label in plan.expansion.mcs:
        specification = plan.spec.specification.specification[label]
        found = convergence(specification)
        name, growth = _largest_growth(plan, label)
        if found is None or not growth or found.error <= max(ACCURACY / max(growth, 1.0), _ROUNDING):
            continue
        warnings.warn(
            f"Energies of {model_of(plan, label)!r} are good to about {found.error:.0e} E_h ({found.told}), "
            f"which makes about {found.error * growth:.1e} E_h in the {name} energy. "
            f"For {ACCURACY:.0e} E_h, set {_enough(specification, ACCURACY / growth)}.",
            stacklevel=2,
        )
    name, growth = _largest_growth(plan)
    if plan.symmetry is not None and plan.symmetry.deviation * _SLOPE * growth > ACCURACY:
        warnings.warn(
            f"Calculations that are taken for the same differ by up to {plan.symmetry.deviation:.1e} a0, which may "
            f"make about {plan.symmetry.deviation * _SLOPE * growth:.1e} E_h in the {name} energy. "
            f"For {ACCURACY:.0e} E_h, give coordinates with more decimals, or a smaller mbe.symmetry_tolerance.",
            stacklevel=2,
        )


def _largest_growth(plan: Plan, mc: str | None = None) -> tuple[str, float]:
    """The sum in which random errors grow most, and by how much."""
    growth = {name: plan.amplification(*which, mc=mc)[1] for name, which in sums(plan)}
    return max(growth.items(), key=lambda item: item[1], default=("", 0.0))


def _enough(specification: AtomicSpecification, needed: float) -> str:
    """The thresholds, all tightened by the same power of ten, with which each energy is as good as needed."""
    power, found = 0, convergence(specification)
    while found is not None and found.error > max(needed, _ROUNDING):
        power += 1
        found = convergence(specification, 10.0**power)
    return found.told if found is not None else ""
