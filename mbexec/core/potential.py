"""The built-in model potential: Lennard-Jones pairs and Axilrod-Teller-Muto triples of all real atoms.

It needs numpy alone, so that mbexec runs, is tested and is benchmarked without a quantum-chemistry program.
Over fragments its many-body expansion ends with the 2-body (``lj``) or 3-body terms (``lj-atm``). Atoms of
one molecule interact like any others: energies of molecules are large and without meaning. With distances
r and angles of the triangle i, j, k, Eq. 20 of [1]_ and the triple dipoles of [2]_ are::

    E = sum(i<j) D_ij [(x_ij/r_ij)^12 - 2 (x_ij/r_ij)^6]
      + sum(i<j<k) C9_ijk [1 + 3 cos(i) cos(j) cos(k)] / (r_ij r_jk r_ki)^3

D and x are UFF's [1]_, combined geometrically. C9 of like atoms is 3/4 alpha C6 [3]_, with C6 = 2 D x^6 and
the static dipole polarizability alpha [4]_; of unlike atoms it is the geometric mean of the three. With the
squared sides a, b, c, by which it is differentiated, a triple is C9 (abc)^(-3/2) [1 + 3/8 P/(abc)], where
P = (a+b-c)(a-b+c)(-a+b+c). Sums run in one order, without BLAS: equal input gives equal bits in any thread.

.. [1] A. K. Rappe et al., J. Am. Chem. Soc. 114, 10024 (1992).
.. [2] B. M. Axilrod, E. Teller, J. Chem. Phys. 11, 299; Y. Muto, Proc. Phys.-Math. Soc. Jpn. 17, 629 (1943).
.. [3] Y. Midzuno, T. Kihara, J. Phys. Soc. Jpn. 11, 1045 (1956).
.. [4] P. Schwerdtfeger, J. K. Nagle, Mol. Phys. 117, 1200 (2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import pairwise
from math import comb, inf
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qcelemental import constants, periodictable
from qcelemental.models.v2 import AtomicInput, AtomicProperties, AtomicResult, Provenance

from mbexec.core.errors import InputError

__all__ = ["ModelPotential", "Parameters", "energy_and_derivatives", "model_parameters"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

METHODS = {"lj": False, "lj-atm": True}  # whether it has triples
ORDERS = {"energy": 0, "gradient": 1, "hessian": 2}
UNITS = {"epsilon": "E_h", "rmin": "a0", "c9": "E_h a0^9"}
CLOSEST = 1e-3  # a0; nearer atoms are one atom given twice
CHUNK = 8192  # triples at a time: the work arrays of a chunk stay in the processor's cache
NEXT, LAST = np.array([1, 2, 0]), np.array([2, 0, 1])  # of the sides ij, jk, ki
TABLE = {  # D (kcal/mol) and x (angstrom) of Table 1 of [1]; alpha (a0^3) of Table 1 of [4]
    "H": (0.044, 2.886, 4.50711), "He": (0.056, 2.362, 1.38375), "Li": (0.025, 2.451, 164.1125),
    "C": (0.105, 3.851, 11.3), "N": (0.069, 3.660, 7.4), "O": (0.060, 3.500, 5.3), "F": (0.050, 3.364, 3.74),
    "Ne": (0.042, 3.243, 2.6611), "Na": (0.030, 2.983, 162.7), "Si": (0.402, 4.295, 37.3),
    "P": (0.305, 4.147, 25.0), "S": (0.274, 4.035, 19.4), "Cl": (0.227, 3.947, 14.6),
    "Ar": (0.185, 3.868, 11.083), "K": (0.035, 3.812, 289.7), "Br": (0.251, 4.189, 21.0),
    "Kr": (0.220, 4.141, 16.78), "I": (0.339, 4.500, 32.9), "Xe": (0.332, 4.404, 27.32),
}  # fmt: skip
_version = lru_cache(version)  # which reads a file


@dataclass(frozen=True, eq=False)  # compared by identity: a cheap key of the caches
class Parameters:
    """Per element: well depth `epsilon` (E_h), distance of the minimum `rmin` (a0), and `c9` (E_h a0^9)."""

    epsilon: Mapping[str, float]
    rmin: Mapping[str, float]
    c9: Mapping[str, float]


def model_parameters(keywords: Mapping[str, Any]) -> Parameters:
    """Return the built-in parameters, with the tables `epsilon`, `rmin`, `c9` of `keywords` put in.

    Each stands alone: with another `epsilon` or `rmin`, the element's `c9` stays.
    """
    return _merged(tuple((name, _checked_table(name, keywords[name])) for name in sorted(keywords)))


@lru_cache(maxsize=64)
def _merged(given: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]) -> Parameters:
    tables: dict[str, dict[str, float]] = {name: {} for name in UNITS}
    for element, (depth, distance, polarizability) in TABLE.items():
        epsilon, rmin = depth / constants.hartree2kcalmol, distance / constants.bohr2angstroms
        tables["epsilon"][element], tables["rmin"][element] = epsilon, rmin
        tables["c9"][element] = 0.75 * polarizability * 2 * epsilon * rmin**6
    for name, table in given:
        tables[name].update(table)
    return Parameters(**{name: MappingProxyType(table) for name, table in tables.items()})


def _checked_table(name: str, table: Any) -> tuple[tuple[str, float], ...]:
    if name not in UNITS:
        known = ", ".join(f"{keyword} ({unit})" for keyword, unit in UNITS.items())
        raise InputError(f"The model potential has no keyword {name!r}. Give one of {known}.")
    if not isinstance(table, Mapping) or not all(map(_is_parameter, table.keys(), table.values())):
        raise InputError(
            f"Keyword {name} of the model potential is {table!r}, not a table of element symbols and finite"
            f" numbers that are not negative ({UNITS[name]}). Write it as {name} = {{Ar = 1.0}}."
        )
    return tuple(sorted((element, float(value)) for element, value in table.items()))


def _is_parameter(element: Any, value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and 0 <= value < inf and element in periodictable.E


@lru_cache(maxsize=256)
def _pair_parameters(symbols: tuple[str, ...], known: Parameters, triples: bool) -> list[Floats]:
    """Return D, x^2 and q of every pair; C9 of a triple is the product of its three q."""
    tables = {name: getattr(known, name) for name in UNITS if triples or name != "c9"}
    complete = [element for element in known.epsilon if all(element in table for table in tables.values())]
    if element := next((symbol for symbol in symbols if symbol not in complete), None):
        lacking = [f"{name} = {{{element} = ...}}" for name, table in tables.items() if element not in table]
        raise InputError(
            f"The model potential lacks parameters for element {element!r}. It has them for"
            f" {', '.join(complete)}; for another element give {' and '.join(lacking)} by keyword (E_h, a0)."
        )
    i, j = _pairs(len(symbols))
    values = [np.array([table[element] for element in symbols], dtype=float) for table in tables.values()]
    depth, x2, *c9 = (value[i] * value[j] for value in values)
    return [np.sqrt(depth), x2, *(np.sqrt(np.cbrt(product)) for product in c9)]


@lru_cache(maxsize=64)
def _pairs(nat: int) -> tuple[Indices, ...]:
    return np.triu_indices(nat, 1)


@lru_cache(maxsize=64)
def _chunks(nat: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return ranges of pairs ij that have about `size` triples each, at most `nat` more."""
    ends = np.cumsum(nat - 1 - _pairs(nat)[1])
    cuts = np.searchsorted(ends, np.arange(size, comb(nat, 3), size))
    return tuple(pairwise(np.unique([0, *cuts, ends.size]).tolist()))


@lru_cache(maxsize=128)  # of at most CHUNK + nat triples each
def _triples(nat: int, first: int, last: int) -> Indices:
    """Return the pairs ij, jk, ik (3, m) of the triples i<j<k whose pair ij is in the range."""
    j = _pairs(nat)[1][first:last]
    count = nat - 1 - j  # of atoms k
    ij = np.repeat(np.arange(first, last), count)
    step = np.arange(ij.size) - np.repeat(np.cumsum(count) - count, count)  # k - j - 1
    row = np.repeat(j * (2 * nat - j - 1) // 2, count)  # index of the pair j, j+1
    return np.stack([ij, row + step, ij + step + 1])


def energy_and_derivatives(
    symbols: Sequence[str], geometry: Floats, parameters: Parameters, *, triples: bool, order: int
) -> tuple[float, Floats | None, Floats | None]:
    """Return the energy and, as `order` asks, its derivatives.

    Parameters
    ----------
    symbols : Sequence of str, the element of each atom, empty for a ghost
    geometry : ndarray (nat, 3), in a0
    parameters : Parameters
    triples : bool, whether Axilrod-Teller-Muto triples are added to the Lennard-Jones pairs
    order : int, 0 for the energy, 1 for the gradient too, 2 for the Hessian too

    Returns
    -------
    Energy in E_h; gradient (nat, 3) in E_h/a0 or None; Hessian (3 nat, 3 nat) in E_h/a0^2 or None
    """
    nat = len(symbols)
    real = np.array([k for k in range(nat) if symbols[k]], dtype=np.intp)
    depth, x2, *q = _pair_parameters(tuple(filter(None, symbols)), parameters, triples)
    i, j = (real[ends] for ends in _pairs(real.size))
    d, r2 = _separations(symbols, geometry, i, j)
    energy, sums = _lennard_jones(depth, x2, r2, order)
    if triples:
        strength = q[0] / (r2 * np.sqrt(r2))
        for first, last in _chunks(real.size, CHUNK):
            energy += _axilrod_teller(strength, r2, d, _triples(real.size, first, last), sums)
    gradient = _gradient(sums[0], d, i, j, nat) if order > 0 else None
    return energy, gradient, _hessian(sums, d, i, j, nat) if order > 1 else None


def _separations(symbols: Sequence[str], geometry: Floats, i: Indices, j: Indices) -> tuple[Floats, Floats]:
    """Return x_i - x_j (3, npair) and r_ij^2 (npair,)."""
    d = geometry.T.take(i, 1) - geometry.T.take(j, 1)
    r2 = np.add.reduce(d * d)
    if r2.size and not np.minimum.reduce(r2) >= CLOSEST**2:  # NaN fails as well
        p = np.argmin(r2)
        both = " and ".join(f"{symbols[k]} at {geometry[k].tolist()}" for k in (i[p], j[p]))
        raise InputError(
            f"Atoms {both} (a0) are {np.sqrt(r2[p]):.1e} a0 apart; {CLOSEST} a0 is the least allowed."
            " Remove the one given twice, or correct the geometry."
        )
    return d, r2


def _lennard_jones(depth: Floats, x2: Floats, r2: Floats, order: int) -> tuple[float, list[Floats]]:
    """Return the energy, and dE/d(r^2), d2E/d(r^2)^2 and empty Hessian blocks, to which the triples add."""
    ratio = x2 / r2
    u = ratio * ratio * ratio
    sums: list[Floats] = []
    if order > 0:
        sums.append(-6 * depth * u * (u - 1) / r2)
    if order > 1:
        sums += [depth * u * (42 * u - 24) / (r2 * r2), np.zeros((3, 3, r2.size))]
    return float(np.add.reduce(depth * u * (u - 2))), sums


def _axilrod_teller(strength: Floats, r2: Floats, d: Floats, sides: Indices, sums: list[Floats]) -> float:
    s = r2.take(sides)  # a, b, c
    cos = np.multiply.reduce((0.5 * np.add.reduce(s) - s) / s)  # the three cosines, P/(8abc)
    g = np.multiply.reduce(strength.take(sides))  # C9 (abc)^(-3/2)
    if sums:
        _differentiate(g, cos, s, d, sides, sums)
    return float(np.add.reduce(g * (1 + 3 * cos)))


def _differentiate(g: Floats, cos: Floats, s: Floats, d: Floats, sides: Indices, sums: list[Floats]) -> None:
    """Add the derivatives by a, b, c; `u`, `v`, `w` are a P_a, a^2 P_aa, ab P_ab over 8abc."""
    s1, s2, flat, npair = s.take(NEXT, 0), s.take(LAST, 0), sides.ravel(), d.shape[1]
    scale = s / (8 * np.multiply.reduce(s))
    u = scale * ((s1 - s2) * (s1 - s2) + s * (2 * (s1 + s2) - 3 * s))
    first = g * (3 * u - 7.5 * cos - 1.5) / s
    sums[0] += np.bincount(flat, first.ravel(), npair)
    if len(sums) > 1:
        v, w = scale * s * (2 * (s1 + s2) - 6 * s), scale * s1 * (2 * (s + s1 - s2))
        second = g * (3 * v - 15 * u + 26.25 * cos + 3.75) / (s * s)
        mixed = g * (3 * w - 7.5 * (u + u.take(NEXT, 0)) + 18.75 * cos + 2.25) / (s * s1)
        sums[1] += np.bincount(flat, second.ravel(), npair)
        block = _mixed_blocks(mixed, d.take(sides, 1))
        for x, y in np.ndindex(3, 3):
            sums[2][x, y] += np.bincount(flat, block[x, y].ravel(), npair)


def _mixed_blocks(mixed: Floats, d: Floats) -> Floats:
    """Return d2E/dx_i dx_j (3, 3, 3, m) of the atoms of each side, from the derivatives by two sides.

    Let m be the outer product of a side and the next, going round: all m, less the next and its transpose.
    """
    d[:, 2] *= -1  # the pair is ik, the side ki
    m = (4 * mixed * d)[:, None] * d.take(NEXT, 1)
    following = m.take(NEXT, 2)
    block = np.add.reduce(m, axis=2, keepdims=True) - following - following.swapaxes(0, 1)
    block[:, :, 2] = block[:, :, 2].swapaxes(0, 1).copy()
    return block


def _gradient(first: Floats, d: Floats, i: Indices, j: Indices, nat: int) -> Floats:
    return np.array([np.bincount(i, f, nat) - np.bincount(j, f, nat) for f in 2 * first * d]).T.copy()


def _hessian(sums: list[Floats], d: Floats, i: Indices, j: Indices, nat: int) -> Floats:
    """Return the Hessian; its diagonal blocks follow from the others, as moving all atoms costs nothing."""
    first, second, blocks = sums
    blocks = blocks - 4 * second * d[:, None] * d - 2 * first * np.eye(3)[:, :, None]
    hessian = np.zeros((nat, nat, 3, 3))
    hessian[i, j], hessian[j, i] = blocks.transpose(2, 0, 1), blocks.transpose(2, 1, 0)
    own = np.add.reduce(hessian, axis=1)
    hessian[range(nat), range(nat)] -= 0.5 * (own + own.swapaxes(1, 2))
    return hessian.swapaxes(1, 2).reshape(3 * nat, 3 * nat)


class ModelPotential:
    """The model potential as a program with the face of a QCEngine harness; it has no state."""

    name = "model-potential"
    thread_safe = True
    ghosts = "honoured"

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Return True: nothing else has to be installed."""
        return True

    def get_version(self) -> str:
        """Return the version of mbexec."""
        return _version("mbexec")

    def compute(self, input_data: AtomicInput, config: object) -> AtomicResult:
        """Return energy (E_h), gradient (nat, 3), Hessian (3 nat, 3 nat) up to the driver; zero at ghosts."""
        specification, molecule = input_data.specification, input_data.molecule
        triples, order = _checked(specification)
        parameters = model_parameters(specification.keywords)
        symbols = np.where(molecule.real, molecule.symbols, "").tolist()
        values = energy_and_derivatives(symbols, molecule.geometry, parameters, triples=triples, order=order)
        found = dict(zip(("return_energy", "return_gradient", "return_hessian"), values, strict=True))
        return AtomicResult(
            input_data=input_data,
            molecule=molecule,
            properties=AtomicProperties(calcinfo_natom=len(symbols), **found),
            return_result=values[order],
            provenance=Provenance(creator="mbexec", version=self.get_version(), routine=__name__),
        )


def _checked(specification: Any) -> tuple[bool, int]:
    model, driver = specification.model, specification.driver.value
    for what, given, allowed in (("method", model.method.lower(), METHODS), ("driver", driver, ORDERS)):
        if given not in allowed:
            raise InputError(f"The model potential has no {what} {given!r}. Give {' or '.join(allowed)}.")
    if model.basis not in (None, ""):
        raise InputError(f"The model potential has no basis set, but got {model.basis!r:.80}. Leave it out.")
    return METHODS[model.method.lower()], ORDERS[driver]
