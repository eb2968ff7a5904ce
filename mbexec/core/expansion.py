"""Which fragments a many-body expansion needs, and with what whole-number coefficients.

Everything here is integer arithmetic on arrays; nothing chemical is known. For any collection K of fragment sets
that holds every subset of its members, the n-body contribution to a property P is

    P_n  =  sum_{S in K, |S| = n}  sum_{T subset of S}  (-1)^(n - |T|)  P(T @ b)

where the basis b is T itself (nocp), all fragments (cp) or S (vmfc). The coefficient of a fragment T is therefore
``(-1)^(n - |T|)`` times the number of members of size n that contain it; for the full expansion that number is a
binomial coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.fragments import FragmentSets, IntArray

__all__ = ["Contribution", "Expansion", "Term"]

_BLOCK = 10_000  # increments that are added up together, so that memory holds few of them as Python numbers
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
        size = np.unique(sets.sizes, return_inverse=True)[1]
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

    def joined(self, other: Expansion) -> Expansion:
        """Add the tasks of another one over the same sets, which count in none of the contributions."""
        mcs = tuple(dict.fromkeys((*self.mcs, *other.mcs)))
        terms = [
            (row, mc, self.frag[mine], self.bas[mine], counts[mine])
            for row, counts in enumerate(self.coefficients.T)
            for mc in range(len(self.mcs))
            for mine in [self.mc == mc]
        ]
        for mc, label in enumerate(other.mcs):
            theirs = other.mc == mc
            nothing = np.zeros(int(theirs.sum()), dtype=np.int64)
            terms.append((0, mcs.index(label), other.frag[theirs], other.bas[theirs], nothing))
        return Expansion.from_terms(mcs, self.sets, self.rows, terms)

    def __len__(self) -> int:
        return len(self.mc)

    @property
    def nbody(self) -> IntArray:
        """Number of real fragments of each task, (ntask,)."""
        return self.sets.sizes[self.frag]

    @property
    def has_supersystem(self) -> bool:
        """Whether the whole cluster adds what the orders leave out."""
        return any(row.supersystem for row in self.rows)

    @property
    def left_out(self) -> dict[int, tuple[int, int]]:
        """How many of the sets of each order have no contribution of their own, and how many sets there are."""
        orders = {row.nbody: math.comb(self.sets.nfr, row.nbody) for row in self.rows if not row.supersystem}
        return {nbody: (count - len(self.sets.contributing(nbody)), count) for nbody, count in sorted(orders.items())}

    def total(self, treatment: str, through: int, start: int = 1) -> IntArray:
        """Coefficients of the sum of the contributions of `start` to `through` bodies, (ntask,)."""
        summed: IntArray = self.coefficients[:, self.chosen(treatment, through, start)].sum(axis=1)
        return summed

    def chosen(self, treatment: str, through: int, start: int = 1) -> list[int]:
        """Rows of the contributions of `start` to `through` bodies."""
        return [i for i, row in enumerate(self.rows) if row.bsse == treatment and start <= row.nbody <= through]

    def amplification(
        self,
        treatment: str,
        through: int,
        start: int = 1,
        mc: str | None = None,
        representative: IntArray | None = None,
    ) -> tuple[float, float]:
        """How errors of the tasks' energies, or of those of one model chemistry, grow in what :meth:`total` gives.

        Tasks with the same `representative` have the same energy, and so the same error.

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
            c = np.where(self.mc == self.mcs.index(mc), c, 0.0)
        if representative is not None:
            c = np.bincount(representative, weights=c).astype(np.float64)
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
        for nbody, values in self.increments_by_order(treatment, energies).items():
            names = map(tuple, self.sets.by_size[nbody].tolist())
            pairs = zip(names, values.tolist(), strict=False)
            found.update((name, value) for name, value in pairs if not math.isnan(value))
        return found

    def increments_by_order(self, treatment: str, energies: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
        """The same as arrays, (n_k,) for each order k: of the sets that contribute, in their order; NaN if unknown."""
        found: dict[int, NDArray[np.float64]] = {}
        for row in self.rows:
            if row.bsse != treatment or row.supersystem or row.nbody not in self._full_orders(treatment):
                continue
            found[row.nbody] = self.increments_of(treatment, row.nbody, row.mc, energies)
        return found

    def increments_of(self, treatment: str, nbody: int, mc: str, energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each set of `nbody` fragments adds beyond its subsets, by one model chemistry; as above, in an array.

        Returns
        -------
        (m,) float array, E_h
            In the order of ``sets.contributing(nbody)``; NaN where not all of the energies are known.
        """
        sets, energies = self.sets.contributing(nbody), np.append(energies, np.nan)
        chemistry = np.array(self.mcs.index(mc))
        signed = []
        for size in range(1, nbody + 1):
            for columns in combinations(range(nbody), size):
                part = self.sets.index(sets[:, list(columns)])
                bas = self._basis(treatment, part, self.sets.members(nbody)[: len(sets)])
                task = self._find(chemistry, part, bas)
                signed.append((-1) ** (nbody - size) * energies[task])
        terms = np.array(signed).T
        blocks = (terms[start : start + _BLOCK].tolist() for start in range(0, len(terms), _BLOCK))
        return np.array([math.fsum(each) for block in blocks for each in block], dtype=np.float64)

    def places(self, of: Expansion) -> IntArray:
        """Where the tasks of an expansion over some of the same sets are among these, (len(of),).

        Raises
        ------
        ValueError
            If one of them is not.
        """
        sets = np.concatenate([self.sets.index(sets) for sets in of.sets.by_size.values()])
        mcs = np.array([self.mcs.index(label) for label in of.mcs], dtype=np.int64)
        found = self._find(mcs[of.mc], sets[of.frag], sets[of.bas])
        if (lost := np.flatnonzero(found < 0)).size:
            frag, bas = of.sets[int(of.frag[lost[0]])], of.sets[int(of.bas[lost[0]])]
            raise ValueError(f"there is no task {of.mcs[of.mc[lost[0]]]}, {frag} in the basis of {bas}")
        return found

    def _full_orders(self, treatment: str) -> list[int]:
        """Orders from 1 up without a gap: those whose contributions can be told apart by fragment set."""
        orders = sorted(row.nbody for row in self.rows if row.bsse == treatment)
        return [nbody for place, nbody in enumerate(orders, start=1) if nbody == place]

    def _find(self, mc: IntArray, frag: IntArray, bas: IntArray) -> IntArray:
        """Which tasks these are; -1 for those that are none."""
        nset = len(self.sets)
        known = (self.mc * nset + self.frag) * nset + self.bas
        order = np.argsort(known)
        wanted = (mc * nset + frag) * nset + bas
        task = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
        return np.where(known[task] == wanted, task, -1)

    def _basis(self, treatment: str, part: IntArray, whole: IntArray) -> IntArray:
        if treatment == "vmfc":
            return whole
        if treatment == "nocp" or not len(whole) or self.sets.sizes[whole[0]] == 1:
            return part
        return np.full_like(part, self.sets.all_fragments)
