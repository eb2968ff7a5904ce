"""MP2 and coupled cluster on a converged Hartree-Fock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import cc, mp
from pyscf.cc import ccsd_t_lambda
from pyscf.data.elements import chemcore
from pyscf.grad import ccsd_t as ccsd_t_grad
from qcengine.exceptions import ConvergenceError

from mbexec_pyscf.keywords import Keywords
from mbexec_pyscf.scf import scf_gradient

__all__ = ["Correlated", "run_correlation"]


@dataclass(frozen=True)
class Correlated:
    """What a correlated method gives.

    Parameters
    ----------
    energy : float, E_h
        Total energy.
    properties : dict
        Fields of ``AtomicProperties``.
    gradient : callable
        Computes the gradient, (nat, 3), E_h/a0.
    """

    energy: float
    properties: dict[str, Any]
    gradient: Callable[[], NDArray[np.float64]]


def run_correlation(mf: Any, method: str, keywords: Keywords) -> Correlated:
    """Add the correlation energy.

    Parameters
    ----------
    mf : scf.hf.SCF
        Converged rhf or uhf.
    method : str
        mp2, ccsd or ccsd(t).
    keywords : Keywords
        ``freeze_core`` and the ``cc_`` keywords are used.

    Returns
    -------
    Correlated
        Energy, parts of it, and the gradient on demand.

    Raises
    ------
    ConvergenceError
        The amplitudes did not converge.
    """
    frozen = chemcore(mf.mol) if keywords.freeze_core else 0
    if _nothing_to_correlate(mf, frozen):
        return _uncorrelated(mf, method)
    if method == "mp2":
        return _mp2(mf, frozen)
    return _coupled_cluster(mf, method, frozen, keywords)


def _nothing_to_correlate(mf: Any, frozen: int) -> bool:
    """Whether the correlation energy is zero by construction; PySCF fails on some of these cases."""
    nalpha, nbeta = mf.mol.nelec
    electrons = max(nalpha - frozen, 0) + max(nbeta - frozen, 0)
    virtuals = 2 * np.shape(mf.mo_coeff)[-1] - nalpha - nbeta
    return bool(electrons < 2 or virtuals == 0)


def _uncorrelated(mf: Any, method: str) -> Correlated:
    energy = float(mf.e_tot)
    names = {"mp2": ("mp2",), "ccsd": ("mp2", "ccsd"), "ccsd(t)": ("mp2", "ccsd", "ccsd_prt_pr")}[method]
    properties: dict[str, Any] = {}
    for name in names:
        properties |= _energies(name, energy, 0.0)
    return Correlated(energy, properties, lambda: scf_gradient(mf))


def _energies(name: str, reference: float, correlation: float) -> dict[str, float]:
    return {f"{name}_correlation_energy": correlation, f"{name}_total_energy": reference + correlation}


def _mp2(mf: Any, frozen: int) -> Correlated:
    solver = mp.MP2(mf, frozen=frozen or None)
    solver.kernel()
    properties = {
        "mp2_same_spin_correlation_energy": float(solver.e_corr_ss),
        "mp2_opposite_spin_correlation_energy": float(solver.e_corr_os),
        "mp2_doubles_energy": float(solver.e_corr),
        "mp2_correlation_energy": float(solver.e_corr),
        "mp2_total_energy": float(solver.e_tot),
    }
    return Correlated(float(solver.e_tot), properties, lambda: solver.nuc_grad_method().kernel())


class _Progress:
    """The coupled-cluster iterations so far."""

    def __init__(self) -> None:
        self.iterations = 0
        self.energy_before = float("nan")

    def __call__(self, state: dict[str, Any]) -> None:
        # PySCF calls this between new amplitudes and their energy.
        self.iterations = state["istep"] + 1
        self.energy_before = float(state["eccsd"])


def _coupled_cluster(mf: Any, method: str, frozen: int, keywords: Keywords) -> Correlated:
    solver = cc.CCSD(mf, frozen=frozen or None)
    solver.conv_tol = keywords.cc_conv_tol
    solver.conv_tol_normt = keywords.cc_conv_tol_normt
    solver.max_cycle = keywords.cc_max_cycle
    solver.callback = progress = _Progress()
    integrals = solver.ao2mo()
    solver.kernel(eris=integrals)
    if not solver.converged:
        raise ConvergenceError(_unconverged(float(solver.e_corr), progress, keywords))
    properties = _ccsd_properties(solver, progress)
    if method == "ccsd":
        return Correlated(float(solver.e_tot), properties, lambda: _ccsd_gradient(solver, integrals))
    correlation = float(solver.e_corr + solver.ccsd_t(eris=integrals))
    properties |= _energies("ccsd_prt_pr", float(solver.e_hf), correlation)
    energy = properties["ccsd_prt_pr_total_energy"]
    return Correlated(energy, properties, lambda: _triples_gradient(solver, integrals))


def _ccsd_properties(solver: Any, progress: _Progress) -> dict[str, Any]:
    reference = float(solver.e_hf)
    return {
        **_energies("mp2", reference, float(solver.emp2)),
        **_energies("ccsd", reference, float(solver.e_corr)),
        "ccsd_iterations": progress.iterations,
    }


def _ccsd_gradient(solver: Any, integrals: Any) -> NDArray[np.float64]:
    solver.solve_lambda(eris=integrals)
    _check_lambda(solver.converged_lambda, solver)
    gradient: NDArray[np.float64] = solver.nuc_grad_method().kernel(eris=integrals)
    return gradient


def _triples_gradient(solver: Any, integrals: Any) -> NDArray[np.float64]:
    converged, solver.l1, solver.l2 = ccsd_t_lambda.kernel(
        solver, integrals, max_cycle=solver.max_cycle, tol=solver.conv_tol_normt, verbose=solver.verbose
    )
    _check_lambda(converged, solver)
    gradient: NDArray[np.float64] = ccsd_t_grad.Gradients(solver).kernel(eris=integrals)
    return gradient


def _check_lambda(converged: bool, solver: Any) -> None:
    if not converged:
        raise ConvergenceError(
            f"PySCF's coupled-cluster Lambda equations did not converge in {solver.max_cycle} iterations "
            f"(cc_conv_tol_normt={solver.conv_tol_normt:g}). Raise cc_max_cycle, or loosen cc_conv_tol_normt."
        )


def _unconverged(energy: float, progress: _Progress, keywords: Keywords) -> str:
    return (
        f"PySCF's CCSD did not converge in {progress.iterations} iterations: the energy last changed by "
        f"{energy - progress.energy_before:.2e} E_h (cc_conv_tol={keywords.cc_conv_tol:g}). Raise cc_max_cycle, or "
        "loosen cc_conv_tol and cc_conv_tol_normt."
    )
