"""How much each fragment calculation is expected to cost: an estimate, before anything has run.

A calculation costs N^p. N is the size of a minimal basis on all of its atoms, ghosts included where there is a basis
to borrow; p is the formal scaling of the method. Model chemistries differ by factors that nobody knows beforehand:
real basis sets, implementations, numbers of iterations. So costs compare well within a model chemistry only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qcelemental.models.v2 import AtomicSpecification

    from mbexec.core.types import Plan

__all__ = ["costs", "is_correlated", "is_iterative", "scaling"]

_NOBLE = np.array([2, 10, 18, 36, 54, 86])
_SHELLS = np.array([1, 5, 9, 18, 27, 43, 59])  # functions of a minimal basis, by period
_SCALING = (  # the first that the method's name has in it
    (re.compile(r"ccsdtq"), 10),
    (re.compile(r"ccsdt(?!\w)"), 8),
    (re.compile(r"(ccsd|qcisd|ccd).?(\(a?t\)|_a?t\b)|cc3|mp4(?!\(?sdq)"), 7),
    (re.compile(r"ccsd|qcisd|cisd|ccd|mp3|mp2\.5|mp4"), 6),
    (re.compile(r"mp2|cc2|adc\(2\)|b2g?p?plyp|pwpb95|\bdsd-|xyg3|wb97x-2"), 5),
)
_MEAN_FIELD, _SECOND_ORDER = 3, 5


def scaling(specification: AtomicSpecification) -> int:
    """The power p of the size with which the method's cost grows; a Hessian takes one more.

    Hartree-Fock, density functionals, semi-empirical methods, force fields, and what is not known, count as 3.
    """
    return _power(specification) + int(specification.driver.value == "hessian")


def is_correlated(specification: AtomicSpecification) -> bool:
    """Whether the method goes beyond Hartree-Fock and density functionals."""
    return _power(specification) > _MEAN_FIELD


def is_iterative(specification: AtomicSpecification) -> bool:
    """Whether the correlation energy itself is iterated, as in coupled cluster."""
    return _power(specification) > _SECOND_ORDER


def _power(specification: AtomicSpecification) -> int:
    name = specification.model.method.lower() if specification.model.basis else ""
    return next((power for pattern, power in _SCALING if pattern.search(name)), _MEAN_FIELD)


def costs(plan: Plan) -> NDArray[np.float64]:
    """Expected cost of each task, (ntask,), in units that differ from model chemistry to model chemistry."""
    molecule, expansion = plan.spec.molecule, plan.expansion
    functions = _SHELLS[np.searchsorted(_NOBLE, molecule.atomic_numbers)]
    weights = np.array([functions[atoms].sum() for atoms in molecule.fragments])
    size = np.concatenate([weights[sets - 1].sum(axis=1) for sets in expansion.sets.by_size.values()])
    found = np.zeros(len(plan))
    for mc, label in enumerate(expansion.mcs):
        specification = plan.spec.specification.specification[label]
        mine = expansion.mc == mc
        present = expansion.bas if specification.model.basis else expansion.frag
        found[mine] = size[present[mine]].astype(np.float64) ** scaling(specification)
    return found
