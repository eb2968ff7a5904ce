"""Hartree-Fock and Kohn-Sham: set up, converge, differentiate."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import dft, gto, hessian, scf  # noqa: F401 (mean fields have no Hessian until it is imported)
from qcengine.exceptions import ConvergenceError, InputError

from mbexec_pyscf.basis import orbital_basis
from mbexec_pyscf.guess import minao_guess
from mbexec_pyscf.keywords import Keywords
from mbexec_pyscf.methods import Method

__all__ = ["run_scf", "scf_gradient", "scf_hessian", "scf_properties"]

_HARTREE_FOCK = {"rhf": scf.RHF, "uhf": scf.UHF, "rohf": scf.ROHF}
_KOHN_SHAM = {"rhf": dft.RKS, "uhf": dft.UKS, "rohf": dft.ROKS}
_SETTINGS = (
    "conv_tol",
    "conv_tol_grad",
    "max_cycle",
    "init_guess",
    "level_shift",
    "damp",
    "diis_space",
    "direct_scf_tol",
)
_PRUNING = {
    "nwchem": dft.gen_grid.nwchem_prune,
    "sg1": dft.gen_grid.sg1_prune,
    "treutler": dft.gen_grid.treutler_prune,
    "none": None,
}
# PySCF's Newton solver takes no step once the gradient is 1e-7; DIIS goes on from where it stops.
_NEWTON_LIMIT = 1e-6
_mute = threading.Lock()


class _Progress:
    """How far the iterations came, for the sentence of a failure."""

    def __init__(self) -> None:
        self.iterations = 0
        self.energy_change = float("nan")
        self.gradient = float("nan")

    def __call__(self, state: dict[str, Any]) -> None:
        # DIIS counts cycles, the Newton solver macro-iterations.
        self.iterations = state.get("cycle", state.get("imacro", 0)) + 1
        self.energy_change = float(state["e_tot"] - state["last_hf_e"])
        self.gradient = float(state["norm_gorb"])


def run_scf(mol: gto.Mole, method: Method, keywords: Keywords) -> Any:
    """Converge the mean field that ``method`` is, or starts from.

    Parameters
    ----------
    mol : gto.Mole
        Built.
    method : Method
        Its reference, and its functional if it has one, are used.
    keywords : Keywords
        SCF, density-fitting and grid keywords are used.

    Returns
    -------
    scf.hf.SCF
        Converged.

    Raises
    ------
    ConvergenceError
        Not converged within ``max_cycle`` iterations.
    InputError
        The functional or the auxiliary basis is not to be had.
    """
    mf = _mean_field(mol, method, keywords)
    guess = minao_guess(mol, method.reference) if keywords.init_guess == "minao" else None
    iterations = 0
    if keywords.second_order and mol.nelectron > 1:
        newton = mf.newton()
        newton.conv_tol_grad = max(mf.conv_tol_grad, _NEWTON_LIMIT)
        iterations = _converge(newton, guess, method, keywords)
        guess = newton.make_rdm1()
    mf.cycles = iterations + _converge(mf, guess, method, keywords)
    return mf


def _converge(mf: Any, guess: Any, method: Method, keywords: Keywords) -> int:
    """Run a solver; return its number of iterations."""
    mf.callback = progress = _Progress()
    mf.kernel(dm0=guess)
    if not mf.converged:
        raise ConvergenceError(_unconverged(method, progress, keywords))
    return progress.iterations


def _mean_field(mol: gto.Mole, method: Method, keywords: Keywords) -> Any:
    with _no_checkpoint_file():
        mf = (_KOHN_SHAM if method.xc else _HARTREE_FOCK)[method.reference](mol)
    for name in _SETTINGS:
        setattr(mf, name, getattr(keywords, name))
    if method.xc:
        _set_functional(mf, method.xc, keywords)
    if keywords.density_fit:
        mf = mf.density_fit(auxbasis=_auxiliary(mol, keywords.auxbasis))
    return mf


@contextmanager
def _no_checkpoint_file() -> Iterator[None]:
    """Mean fields made here have none: PySCF makes an empty one at once, which stays behind when a run is killed."""
    with _mute:
        before = scf.hf.MUTE_CHKFILE
        scf.hf.MUTE_CHKFILE = True
        try:
            yield
        finally:
            scf.hf.MUTE_CHKFILE = before


def _set_functional(mf: Any, xc: str, keywords: Keywords) -> None:
    mf.xc = xc
    if mf.do_disp():
        raise InputError(
            f"The functional {xc!r} includes a dispersion correction, which is not offered here; "
            "choose another functional."
        )
    mf.grids.level = keywords.grids_level
    mf.grids.prune = _PRUNING[keywords.grids_prune]
    if keywords.grids_atom_grid:
        mf.grids.atom_grid = keywords.grids_atom_grid


def _auxiliary(mol: gto.Mole, name: str | None) -> dict[str, Any] | None:
    """Auxiliary shells by atom, or None for the ones PySCF pairs with the basis."""
    if name is None:
        return None
    return {symbol: orbital_basis(name, symbol.split("-")[-1].capitalize()) for symbol in set(mol.elements)}


def _unconverged(method: Method, progress: _Progress, keywords: Keywords) -> str:
    return (
        f"PySCF's {method.reference} SCF of {method.name} did not converge in {progress.iterations} iterations: the "
        f"energy last changed by {progress.energy_change:.2e} E_h (conv_tol={keywords.conv_tol:g}) with an orbital "
        f"gradient of {progress.gradient:.2e} (conv_tol_grad={keywords.conv_tol_grad:g}). "
        "Raise max_cycle, or try second_order, level_shift, damp or another init_guess."
    )


def scf_properties(mf: Any) -> dict[str, Any]:
    """Collect what an SCF gives, under QCSchema's names.

    Parameters
    ----------
    mf : scf.hf.SCF
        Converged.

    Returns
    -------
    dict
        Fields of ``AtomicProperties``; energies in E_h, the dipole in e a0.
    """
    mol, parts = mf.mol, mf.scf_summary
    nalpha, nbeta = mol.nelec
    kohn_sham = isinstance(mf, scf.hf.KohnShamDFT)
    return {
        "calcinfo_nbasis": mol.nao,
        "calcinfo_nmo": np.shape(mf.mo_coeff)[-1],
        "calcinfo_nalpha": nalpha,
        "calcinfo_nbeta": nbeta,
        "calcinfo_natom": mol.natm,
        "nuclear_repulsion_energy": float(mol.energy_nuc()),
        "scf_total_energy": float(mf.e_tot),
        # PySCF keeps no parts of a one-electron system.
        "scf_one_electron_energy": parts.get("e1"),
        "scf_two_electron_energy": parts.get("coul" if kohn_sham else "e2"),
        "scf_xc_energy": parts.get("exc") if kohn_sham else None,
        "scf_dipole_moment": mf.dip_moment(unit="AU", verbose=0),
        "scf_iterations": mf.cycles,
    }


def scf_gradient(mf: Any) -> NDArray[np.float64]:
    """Differentiate the SCF energy.

    Parameters
    ----------
    mf : scf.hf.SCF
        Converged.

    Returns
    -------
    (nat, 3) float array, E_h/a0
        A row for each atom, ghosts included.
    """
    return np.asarray(mf.nuc_grad_method().kernel())


def scf_hessian(mf: Any) -> NDArray[np.float64]:
    """Differentiate the SCF energy twice.

    Parameters
    ----------
    mf : scf.hf.SCF
        Converged.

    Returns
    -------
    (3 nat, 3 nat) float array, E_h/a0^2
        Atom by atom, x, y and z of each.
    """
    blocks = mf.Hessian().kernel()
    size = 3 * mf.mol.natm
    return np.asarray(blocks).transpose(0, 2, 1, 3).reshape(size, size)
