"""The keywords a calculation takes: their defaults, and the sentences for what is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pyscf.dft.gen_grid import LEBEDEV_NGRID
from qcengine.exceptions import InputError

__all__ = ["Keywords", "read_keywords"]

REFERENCES = ("rhf", "uhf", "rohf", "rks", "uks", "roks")
GUESSES = ("minao", "atom", "huckel", "1e")
PRUNINGS = ("nwchem", "sg1", "treutler", "none")


@dataclass(frozen=True)
class Keywords:
    """What a calculation may be told, under PySCF's own names where it has one.

    Parameters
    ----------
    reference : str, optional
        rhf, uhf or rohf (rks, uks or roks mean the same for a functional).
    conv_tol : float, E_h
        Change of the SCF energy in the last iteration.
    conv_tol_grad : float, E_h
        Norm of the orbital gradient; nuclear gradients are at least as good as this number. PySCF's DIIS stalls
        near 1e-8, radicals first.
    max_cycle : int
        SCF iterations.
    init_guess : str
        minao, atom, huckel or 1e.
    level_shift : float, E_h
        Raises the virtual orbitals.
    damp : float
        Share of the old Fock matrix before DIIS starts.
    diis_space : int
        Fock matrices that DIIS keeps.
    direct_scf_tol : float
        Screening threshold of integrals computed on the fly.
    second_order : bool
        Newton iterations lead to the solution; DIIS only finishes.
    density_fit : bool
        Fits the two-electron integrals.
    auxbasis : str, optional
        Basis to fit in, by name; None is PySCF's choice.
    grids_level : int
        Size of the DFT grid, 0 to 9.
    grids_atom_grid : (int, int) tuple, optional
        Radial and angular points of each atom, in place of ``grids_level``.
    grids_prune : str
        nwchem, sg1, treutler or none.
    freeze_core : bool
        Leaves core orbitals uncorrelated.
    cc_conv_tol : float, E_h
        Change of the coupled-cluster energy in the last iteration.
    cc_conv_tol_normt : float
        Change of the norm of the amplitudes.
    cc_max_cycle : int
        Coupled-cluster iterations.
    cart : bool
        Cartesian in place of spherical basis functions.
    verbose : int
        PySCF's print level; what it prints becomes the result's ``stdout``.
    """

    reference: str | None = None
    conv_tol: float = 1e-10
    conv_tol_grad: float = 1e-7
    max_cycle: int = 100
    init_guess: str = "minao"
    level_shift: float = 0.0
    damp: float = 0.0
    diis_space: int = 8
    direct_scf_tol: float = 1e-13
    second_order: bool = False
    density_fit: bool = False
    auxbasis: str | None = None
    grids_level: int = 3
    grids_atom_grid: tuple[int, int] | None = None
    grids_prune: str = "nwchem"
    freeze_core: bool = False
    cc_conv_tol: float = 1e-10
    cc_conv_tol_normt: float = 1e-8
    cc_max_cycle: int = 100
    cart: bool = False
    verbose: int = 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _one_of(allowed: Collection[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value.lower() in allowed


def _integer(low: int, high: float = math.inf) -> Callable[[object], bool]:
    def _check(value: object) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high

    return _check


def _number(low: float, *, low_allowed: bool, below: float = math.inf) -> Callable[[object], bool]:
    def _check(value: object) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number = float(value)
        return low < number < below or (low_allowed and number == low)

    return _check


def _is_atom_grid(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(map(_integer(1), value)) and bool((value[1] == LEBEDEV_NGRID).any())


_YES_NO = (_is_bool, "true or false")
_POSITIVE = (_number(0.0, low_allowed=False), "a positive number")
_COUNT = (_integer(1), "a whole number of at least 1")

# keyword -> what it accepts, as a test and in words
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "reference": (_one_of(REFERENCES), f"one of {', '.join(REFERENCES)}"),
    "conv_tol": _POSITIVE,
    "conv_tol_grad": _POSITIVE,
    "max_cycle": _COUNT,
    "init_guess": (_one_of(GUESSES), f"one of {', '.join(GUESSES)}"),
    "level_shift": (_number(0.0, low_allowed=True), "a number of at least 0, in E_h"),
    "damp": (_number(0.0, low_allowed=True, below=1.0), "a number from 0 up to, not including, 1"),
    "diis_space": _COUNT,
    "direct_scf_tol": _POSITIVE,
    "second_order": _YES_NO,
    "density_fit": _YES_NO,
    "auxbasis": (_is_name, "the name of an auxiliary basis"),
    "grids_level": (_integer(0, 9), "a whole number from 0 to 9"),
    "grids_atom_grid": (_is_atom_grid, "a number of radial and a Lebedev number of angular points, like [75, 302]"),
    "grids_prune": (_one_of(PRUNINGS), f"one of {', '.join(PRUNINGS)}"),
    "freeze_core": _YES_NO,
    "cc_conv_tol": _POSITIVE,
    "cc_conv_tol_normt": _POSITIVE,
    "cc_max_cycle": _COUNT,
    "cart": _YES_NO,
    "verbose": (_integer(0, 9), "a whole number from 0 (quiet) to 9"),
}


def read_keywords(given: Mapping[str, Any]) -> Keywords:
    """Check the keywords of an input and fill in the defaults.

    Parameters
    ----------
    given : mapping
        ``specification.keywords`` of an ``AtomicInput``.

    Returns
    -------
    Keywords
        Every keyword, given or default.

    Raises
    ------
    InputError
        A keyword is unknown, has a value it does not take, or contradicts another.
    """
    for name, value in given.items():
        _check(name, value)
    keywords = Keywords(**{name: _plain(value) for name, value in given.items()})
    if keywords.auxbasis and not keywords.density_fit:
        raise InputError(
            f"The keyword auxbasis={keywords.auxbasis!r} is used only with density fitting; "
            "add density_fit=true or leave auxbasis out."
        )
    return keywords


def _check(name: str, value: object) -> None:
    if name == "max_memory":
        raise InputError(
            "max_memory is not a keyword: PySCF gets the memory of the task configuration; set memory (GiB) there."
        )
    if name not in _RULES:
        raise InputError(_unknown(name))
    accepts, words = _RULES[name]
    if not accepts(value):
        raise InputError(f"The keyword {name} cannot be {value!r}: it takes {words}.")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _RULES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"PySCF takes no keyword {name!r}.{hint} Known keywords: {', '.join(_RULES)}."


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().lower()
    return tuple(value) if isinstance(value, (list, tuple)) else value
