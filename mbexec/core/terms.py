"""What each n-body contribution counts, and how often: the terms of an expansion.

References
----------
R. M. Richard, K. U. Lao, J. M. Herbert, J. Chem. Phys. 141, 014108 (2014), eqs. 3-9 (nocp);
S. F. Boys, F. Bernardi, Mol. Phys. 19, 553 (1970) (cp);
P. Valiron, I. Mayer, Chem. Phys. Lett. 275, 46 (1997) (vmfc).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from attrs import evolve

from mbexec.core.expansion import Contribution, Expansion, Term
from mbexec.core.fragments import FragmentSets

__all__ = ["expand"]


def expand(
    sets: FragmentSets,
    *,
    bsse_type: Sequence[str],
    levels: Mapping[int | str, str],
    return_total_data: bool,
    supersystem_ie_only: bool = False,
) -> Expansion:
    """The tasks and coefficients of an expansion over the given collection of fragment sets.

    Parameters
    ----------
    sets
        Closed under subsets.
    bsse_type
        Any of nocp, cp, vmfc.
    levels
        Model chemistry of each nbody from 1 up, and perhaps of the "supersystem", which adds what is missing up to
        all fragments, in the nocp manner.
    return_total_data
        Whether monomers in their own basis are wanted although nothing else needs them.
    supersystem_ie_only
        Only monomers and the whole cluster: no contributions in between.
    """
    mcs = tuple(dict.fromkeys(levels.values()))
    sets = evolve(sets, whole=True) if supersystem_ie_only else sets
    nbodies = [1, sets.nfr] if supersystem_ie_only else sorted(n for n in levels if isinstance(n, int))
    rows = []
    for bsse in bsse_type:
        rows += [Contribution(bsse, nbody, levels[nbody]) for nbody in nbodies]
        if "supersystem" in levels:
            rows.append(Contribution(bsse, sets.nfr, levels["supersystem"], supersystem=True))
    monomers = return_total_data or ("nocp" in bsse_type and not supersystem_ie_only)
    terms: list[Term] = []
    for place, row in enumerate(rows):
        mc = mcs.index(row.mc)
        if row.supersystem:
            terms += _supersystem_terms(place, mc, sets, nbodies)
        elif row.nbody == 1:
            terms += _nocp_terms(place, mc, sets, 1) if monomers or row.bsse != "cp" else []
        elif supersystem_ie_only:
            terms += _interaction_terms(place, mc, sets, row.bsse)
        elif row.bsse == "vmfc":
            terms += _vmfc_terms(place, mc, sets, row.nbody)
        else:
            terms += _nocp_terms(place, mc, sets, row.nbody, everywhere=row.bsse == "cp")
    return Expansion.from_terms(mcs, sets, tuple(rows), terms)


def _nocp_terms(row: int, mc: int, sets: FragmentSets, nbody: int, *, everywhere: bool = False) -> list[Term]:
    """An n-body contribution with each fragment in its own basis, or in everyone's (cp)."""
    terms: list[Term] = []
    for size in range(1, nbody + 1):
        counts = sets.supersets(nbody, size)
        frag = sets.members(size)[counts != 0]
        bas = np.full_like(frag, sets.all_fragments) if everywhere else frag
        terms.append((row, mc, frag, bas, (-1) ** (nbody - size) * counts[counts != 0]))
    return terms


def _vmfc_terms(row: int, mc: int, sets: FragmentSets, nbody: int) -> list[Term]:
    """An n-body contribution with each fragment in the basis of the n-body set it is subtracted from."""
    whole = sets.contributing(nbody)
    bas = sets.members(nbody)[: len(whole)]
    return [
        (row, mc, sets.index(whole[:, list(columns)]), bas, np.full_like(bas, (-1) ** (nbody - size)))
        for size in range(1, nbody + 1)
        for columns in combinations(range(nbody), size)
    ]


def _interaction_terms(row: int, mc: int, sets: FragmentSets, bsse: str) -> list[Term]:
    """The whole cluster less its monomers."""
    whole, single = sets.members(sets.nfr), sets.members(1)
    bas = np.full_like(single, whole[0]) if bsse == "cp" else single
    return [(row, mc, whole, whole, np.ones_like(whole)), (row, mc, single, bas, -np.ones_like(single))]


def _supersystem_terms(row: int, mc: int, sets: FragmentSets, nbodies: Sequence[int]) -> list[Term]:
    """The whole cluster less its own expansion up to the highest of `nbodies`."""
    whole = sets.members(sets.nfr)
    terms: list[Term] = [(row, mc, whole, whole, np.ones_like(whole))]
    for size in range(1, max(nbodies) + 1):
        counts = sum((-1) ** (nbody - size) * sets.supersets(nbody, size) for nbody in nbodies if nbody >= size)
        frag = sets.members(size)[counts != 0]
        terms.append((row, mc, frag, frag, -counts[counts != 0]))
    return terms
