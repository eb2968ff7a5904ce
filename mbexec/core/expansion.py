"""Which fragments a many-body expansion needs, and with what whole-number coefficients.

Everything here is integer arithmetic on arrays; nothing chemical is known. For any collection K of fragment sets
that holds every subset of its members, the n-body contribution to a property P is

    P_n  =  sum_{S in K, |S| = n}  sum_{T subset of S}  (-1)^(n - |T|)  P(T @ b)

where the basis b is T itself (nocp), all fragments (cp) or S (vmfc). The coefficient of a fragment T is therefore
``(-1)^(n - |T|)`` times the number of members of size n that contain it; for the full expansion that number is a
binomial coefficient.

References
----------
R. M. Richard, K. U. Lao, J. M. Herbert, J. Chem. Phys. 141, 014108 (2014), eqs. 3-9 (nocp);
S. F. Boys, F. Bernardi, Mol. Phys. 19, 553 (1970) (cp);
P. Valiron, I. Mayer, Chem. Phys. Lett. 275, 46 (1997) (vmfc).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.fragments import FragmentSets, IntArray

__all__ = ["Contribution", "Expansion", "expand"]

Term = tuple[int, int, IntArray, IntArray, IntArray]  # row, model chemistry, frag, bas, coefficient


@frozen
class Contribution:
    """One term of an expansion: what the sets of `nbody` fragments add beyond their subsets.

    Attributes
    ----------
    bsse
        nocp, cp or vmfc.
    nbody
        Number of fragments; all of them for a supersystem.
    mc
        Label of the model chemistry.
    supersystem
        Whether it is the supersystem's: all that the n-body terms below leave out.
    """

    bsse: str
    nbody: int
    mc: str
    supersystem: bool = False


@frozen(eq=False)
class Expansion:
    """The fragments of an expansion, and the whole-number coefficients of its n-body contributions.

    Fragment calculations ("tasks") are ordered by nbody, then model chemistry in level order, then frag, then bas.

    Attributes
    ----------
    mcs
        Labels of the model chemistries, in level order.
    sets
        The collection that `frag` and `bas` point into.
    mc, frag, bas : (ntask,) int arrays
        Model chemistry, fragments that are real and fragments whose basis functions are present, of each task.
    rows
        The contributions.
    coefficients : (ntask, nrow) int array
        How often each task counts in each contribution.
    """

    mcs: tuple[str, ...]
    sets: FragmentSets
    mc: IntArray
    frag: IntArray
    bas: IntArray
    rows: tuple[Contribution, ...]
    coefficients: IntArray

    @classmethod
    def from_terms(
        cls,
        mcs: tuple[str, ...],
        sets: FragmentSets,
        rows: tuple[Contribution, ...],
        terms: Sequence[Term],
    ) -> Expansion:
        """Add up terms; a term with coefficient zero still asks for its task."""
        nset = len(sets)
        rank = sets.lexicographic_rank()
        size = sets.sizes
        empty = [np.empty(0, dtype=np.int64)]
        keys = np.concatenate(
            empty + [((size[frag] * len(mcs) + mc) * nset + frag) * nset + rank[bas] for _, mc, frag, bas, _ in terms]
        )
        unique, task = np.unique(keys, return_inverse=True)
        where = np.concatenate(empty + [np.full(len(frag), row) for row, _, frag, _, _ in terms])
        count = np.concatenate(empty + [c for *_, c in terms])
        coefficients = np.zeros((len(unique), len(rows)), dtype=np.int64)
        np.add.at(coefficients, (task[count != 0], where[count != 0]), count[count != 0])
        by_rank = np.argsort(rank)
        return cls(
            mcs=mcs,
            sets=sets,
            mc=unique // (nset * nset) % len(mcs),
            frag=unique // nset % nset,
            bas=by_rank[unique % nset],
            rows=rows,
            coefficients=coefficients,
        )

    @classmethod
    def from_tasks(
        cls, nfr: int, tasks: Iterable[tuple[str, Sequence[int], Sequence[int]]], sets: FragmentSets | None = None
    ) -> Expansion:
        """The given (mc, frag, bas) tasks and no coefficients: for planners that merge in a way of their own."""
        wanted = list(tasks)
        mcs = tuple(dict.fromkeys(mc for mc, _, _ in wanted))
        used = {tuple(s) for _, frag, bas in wanted for s in (frag, bas)}
        below = {t for s in used if len(s) < nfr for k in range(1, len(s) + 1) for t in combinations(sorted(s), k)}
        sets = sets or FragmentSets.closed(nfr, below | {(i,) for i in range(1, nfr + 1)})
        terms: list[Term] = [
            (0, mcs.index(mc), sets.index(np.array([frag])), sets.index(np.array([bas])), np.zeros(1, dtype=np.int64))
            for mc, frag, bas in wanted
        ]
        return cls.from_terms(mcs, sets, (), terms)

    def __len__(self) -> int:
        return len(self.mc)

    @property
    def nbody(self) -> IntArray:
        """Number of real fragments of each task, (ntask,)."""
        return self.sets.sizes[self.frag]

    def total(self, treatment: str, through: int, start: int = 1) -> IntArray:
        """Coefficients of the sum of the contributions of `start` to `through` bodies, (ntask,)."""
        summed: IntArray = self.coefficients[:, self.chosen(treatment, through, start)].sum(axis=1)
        return summed

    def chosen(self, treatment: str, through: int, start: int = 1) -> list[int]:
        """Rows of the contributions of `start` to `through` bodies."""
        return [i for i, row in enumerate(self.rows) if row.bsse == treatment and start <= row.nbody <= through]

    def amplification(self, treatment: str, through: int, start: int = 1, mc: str | None = None) -> tuple[float, float]:
        """How errors of the tasks' energies, or of those of one model chemistry, grow in what :meth:`total` gives.

        Returns
        -------
        worst
            The sum of ``|c|``: the error of the sum if each energy is off by 1 in the worst direction.
        random
            The root of the sum of ``c^2``: its standard deviation if each energy's error is random with deviation 1.

        References
        ----------
        R. M. Richard, K. U. Lao, J. M. Herbert, J. Chem. Phys. 141, 014108 (2014).
        """
        c = self.total(treatment, through, start).astype(np.float64)
        if mc is not None:
            c = c[self.mc == self.mcs.index(mc)]
        return float(np.abs(c).sum()), float(np.sqrt((c**2).sum()))

    def increments(self, treatment: str, energies: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
        """What each fragment set adds beyond its subsets; sets whose energies are not all known are left out.

        Parameters
        ----------
        treatment
            nocp, cp or vmfc.
        energies : (ntask,) float array, E_h
            Energy of each task, NaN where there is none.

        Returns
        -------
        dict
            Energy in E_h of each fragment set, in the order of `sets`.
        """
        found: dict[tuple[int, ...], float] = {}
        for row in self.rows:
            if row.bsse != treatment or row.supersystem or row.nbody not in self._full_orders(treatment):
                continue
            nbody, mc = row.nbody, self.mcs.index(row.mc)
            sets = self.sets.by_size[nbody]
            signed = []
            for size in range(1, nbody + 1):
                for columns in combinations(range(nbody), size):
                    part = self.sets.index(sets[:, list(columns)])
                    task = self._find(mc, part, self._basis(treatment, part, self.sets.members(nbody)))
                    signed.append((-1) ** (nbody - size) * np.append(energies, np.nan)[task])
            sums = map(math.fsum, np.array(signed).T.tolist())
            names = map(tuple, sets.tolist())
            found.update((name, value) for name, value in zip(names, sums, strict=True) if not math.isnan(value))
        return found

    def _full_orders(self, treatment: str) -> list[int]:
        """Orders from 1 up without a gap: those whose contributions can be told apart by fragment set."""
        orders = sorted(row.nbody for row in self.rows if row.bsse == treatment)
        return [nbody for place, nbody in enumerate(orders, start=1) if nbody == place]

    def _find(self, mc: int, frag: IntArray, bas: IntArray) -> IntArray:
        """Which tasks these are; -1 for those that are none."""
        nset = len(self.sets)
        keys = (self.mc * nset + self.frag) * nset + self.bas
        order = np.argsort(keys)
        wanted = (mc * nset + frag) * nset + bas
        task = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
        return np.where(keys[task] == wanted, task, -1)

    def _basis(self, treatment: str, part: IntArray, whole: IntArray) -> IntArray:
        if treatment == "vmfc":
            return whole
        if treatment == "nocp" or self.sets.sizes[whole[0]] == 1:
            return part
        return np.full_like(part, self.sets.all_fragments)


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
        frag = sets.members(size)
        bas = np.full_like(frag, sets.all_fragments) if everywhere else frag
        terms.append((row, mc, frag, bas, (-1) ** (nbody - size) * sets.supersets(nbody, size)))
    return terms


def _vmfc_terms(row: int, mc: int, sets: FragmentSets, nbody: int) -> list[Term]:
    """An n-body contribution with each fragment in the basis of the n-body set it is subtracted from."""
    bas = sets.members(nbody)
    return [
        (row, mc, sets.index(sets.by_size[nbody][:, list(columns)]), bas, np.full_like(bas, (-1) ** (nbody - size)))
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
    through = [term for nbody in nbodies for term in _nocp_terms(row, mc, sets, nbody)]
    return [(row, mc, whole, whole, np.ones_like(whole))] + [(r, m, f, b, -c) for r, m, f, b, c in through]
