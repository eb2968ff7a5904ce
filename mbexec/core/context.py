"""What every worker of a run needs once: the cluster that fragments are cut from, and what to run on them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qcelemental.models.v2 import AtomicSpecification, Molecule

    from mbexec.core.settings import TaskSettings

__all__ = ["Cluster", "Context", "alternative_label", "rung_label"]


@frozen(eq=False, slots=False)
class Cluster:
    """The parent molecule as arrays, from which fragments are cut.

    Attributes
    ----------
    name
        Of the molecule.
    symbols : (nat,) str array
    geometry : (nat, 3) float array, a0
    masses : (nat,) float array, u
    fragments
        Atoms of each fragment, 0-based.
    charges, multiplicities
        Of each fragment.
    fix_symmetry
        "c1" where the parent asks for no symmetry, else None.
    """

    name: str
    symbols: NDArray[np.str_]
    geometry: NDArray[np.float64]
    masses: NDArray[np.float64]
    fragments: tuple[NDArray[np.intp], ...]
    charges: tuple[float, ...]
    multiplicities: tuple[float, ...]
    fix_symmetry: str | None

    @classmethod
    def of(cls, molecule: Molecule) -> Cluster:
        """Take what is needed from a QCSchema molecule."""
        return cls(
            name=molecule.name or "",
            symbols=molecule.symbols,
            geometry=molecule.geometry,
            masses=np.asarray(molecule.masses),
            fragments=tuple(np.asarray(atoms, dtype=np.intp) for atoms in molecule.fragments),
            charges=tuple(molecule.fragment_charges),
            multiplicities=tuple(molecule.fragment_multiplicities),
            fix_symmetry="c1" if molecule.fix_symmetry == "c1" else None,
        )

    def fragment(self, frag: tuple[int, ...], bas: tuple[int, ...]) -> Molecule:
        """The molecule of a task: fragments of `bas` in rising order, those not in `frag` as ghosts."""
        chosen = [self.fragments[i - 1] for i in bas]
        atoms = np.concatenate(chosen)
        real, parts = _arrangement(tuple([len(part) for part in chosen]), tuple([i in frag for i in bas]))
        charges = [self.charges[i - 1] if i in frag else 0.0 for i in bas]
        multiplicities = [self.multiplicities[i - 1] if i in frag else 1 for i in bas]
        made: dict[str, Any] = {
            "name": f"{self.name} ({[i - 1 for i in frag]},{[i - 1 for i in bas if i not in frag]})",
            "symbols": self.symbols.take(atoms),
            "geometry": self.geometry.take(atoms, axis=0),
            "masses_": self.masses.take(atoms),
            "real_": real,
            "fragments_": parts.copy(),
            "fragment_charges_": charges,
            "fragment_multiplicities_": multiplicities,
            "molecular_charge": sum(charges),
            "molecular_multiplicity": sum(multiplicities) - len(multiplicities) + 1,
            "extras": {},
        }
        return self._pattern.model_copy(update=made)

    @cached_property
    def _pattern(self) -> Molecule:
        """A fragment to copy, with all that fragments have in common: to have each validated takes twice as long."""
        from qcelemental.models.v2 import Molecule

        symmetry = {"fix_symmetry": self.fix_symmetry} if self.fix_symmetry else {}
        return Molecule(
            validate=False,
            validated=True,
            name="",
            symbols=self.symbols[:1],
            geometry=self.geometry[:1],
            masses=self.masses[:1],
            real=[True],
            fragments=[np.zeros(1, dtype=np.int32)],
            fragment_charges=[0.0],
            fragment_multiplicities=[1],
            molecular_charge=0.0,
            molecular_multiplicity=1,
            fix_com=True,
            fix_orientation=True,
            **symmetry,
        )

    def padded(self, values: Mapping[str, Any], frag: tuple[int, ...], bas: tuple[int, ...]) -> dict[str, Any]:
        """Values of the fragments in `frag` as arrays over the atoms of `bas`, zero where ghosts were left out."""
        sizes = [len(self.fragments[i - 1]) for i in bas]
        atoms = np.flatnonzero(np.repeat([i in frag for i in bas], sizes))
        coordinates = (3 * atoms[:, None] + np.arange(3)).ravel()
        nat = sum(sizes)
        found = dict(values)
        if "gradient" in found:
            found["gradient"] = np.zeros((nat, 3))
            found["gradient"][atoms] = values["gradient"]
        if "hessian" in found:
            found["hessian"] = np.zeros((3 * nat, 3 * nat))
            found["hessian"][np.ix_(coordinates, coordinates)] = values["hessian"]
        return found


@lru_cache(maxsize=64)
def _arrangement(sizes: tuple[int, ...], real: tuple[bool, ...]) -> tuple[NDArray[np.bool_], list[NDArray[np.int32]]]:
    """Which atoms are real, and the atoms of each fragment, where fragments of these sizes follow each other.

    Most fragments of a cluster are alike, and share these arrays: nobody can write into them.
    """
    mask = np.array(real).repeat(sizes)
    places = np.arange(len(mask), dtype=np.int32)
    for shared in (mask, places):
        shared.setflags(write=False)
    return mask, np.split(places, np.cumsum(sizes)[:-1])


def alternative_label(mc: str, alternative: int) -> str:
    """The label of a model chemistry (0), or of the nth alternative to it."""
    return f"{mc}, alternative {alternative}" if alternative else mc


def rung_label(mc: str, rung: int) -> str:
    """The label of a model chemistry with the keywords of the nth rung of its ladder."""
    return f"{mc}, rung {rung}"


@frozen(eq=False)
class Context:
    """What is the same for every task of a run, and travels to each worker once.

    Attributes
    ----------
    cluster
        The parent molecule.
    specifications
        Model chemistry of each label, of the rungs of its ladder, and of the alternatives to it that an executor has;
        the driver is the many-body input's.
    harnesses
        "module:Class" of each program that a distribution brings in the entry-point group ``mbexec.programs``; on its
        way to another process also the harnesses themselves that were registered with QCEngine in this one.
    task
        Cores, memory and so on of one task.
    bodies
        Whether the whole ``AtomicResult`` or ``FailedOperation`` is wanted besides the numbers.
    stripped
        Labels of the model chemistries whose program never sees a ghost: there is no basis to borrow.
    properties
        Atomic properties of QCSchema that are wanted besides energy, gradient and Hessian, and their shapes.
    task_of
        The same of one task of N bodies, by N, where it differs.
    rungs
        How many rungs the ladder of a label has, where it has one: keywords to try when a fragment does not converge.
    alternatives
        How many alternatives the executor has.
    host
        QCEngine's description of this host, on its way to another process: all of it if `bodies`, else what is known.
    """

    cluster: Cluster
    specifications: Mapping[str, AtomicSpecification]
    harnesses: Mapping[str, Any]
    task: TaskSettings
    bodies: bool = False
    stripped: frozenset[str] = frozenset()
    properties: Mapping[str, tuple[int, ...]] = field(factory=dict)
    task_of: Mapping[int, TaskSettings] = field(factory=dict)
    rungs: Mapping[str, int] = field(factory=dict)
    alternatives: int = 0
    host: Mapping[str, Any] | None = None

    def attempts(self, mc: str, alternative: int = 0) -> tuple[str, ...]:
        """Labels of what one call tries, the next when the one before did not converge: the rungs of a ladder."""
        if alternative:
            return (alternative_label(mc, alternative),)
        if not self.rungs:
            return (mc,)
        return (mc, *(rung_label(mc, n) for n in range(1, self.rungs.get(mc, 0) + 1)))

    def route(self, mc: str) -> tuple[str, ...]:
        """Labels of all that may be tried for a model chemistry, in order: its ladder, then the alternatives."""
        return (*self.attempts(mc), *(alternative_label(mc, n) for n in range(1, self.alternatives + 1)))

    def settings(self, nbody: int) -> TaskSettings:
        """What a task of that many bodies may use."""
        return self.task_of.get(nbody, self.task)
