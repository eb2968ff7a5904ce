"""Systems whose results are known beforehand, or can be had without an expansion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import field, frozen

from mbexec.core.context import Cluster, Context
from mbexec.core.errors import ProgramError
from mbexec.core.harness import find_harness
from mbexec.core.manager import harnesses
from mbexec.core.potential import model_parameters
from mbexec.core.program import Programs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from mbexec.core.engine import RunResult

__all__ = ["Check", "System", "argon_cluster", "check_alone", "check_together", "standard_systems"]

_ROUNDING = 1e-12  # E_h, E_h/a0: of the model potential
_CONVERGENCE = 1e-8  # the same: of a program that converged twice
_IMPLEMENTATIONS = 1e-6  # E_h: of one method in two programs
_WATER = """
O  -1.1713  -1.1571  -0.0947
H  -0.2329  -1.3694  -0.0338
H  -1.5661  -1.6586   0.6252
--
O   1.5897  -0.4391   0.0986
H   1.3032   0.4845   0.0594
H   2.2193  -0.5396  -0.6230
--
O  -0.4241   1.5950  -0.0072
H  -0.8653   0.7370  -0.0480
H  -0.7131   2.0651  -0.7966
"""


@frozen(eq=False)
class System:
    """A cluster and what to compute of it.

    Attributes
    ----------
    cluster
        Its formula.
    geometry
        As in a job file, angstrom.
    program
        As in a job file: program, method, basis, keywords.
    driver
        energy or gradient.
    bsse
        Treatments; nocp is the first.
    max_nbody
        Of the expansion.
    noise
        What numbers of the program may differ by from run to run though serial runs happen to agree, E_h and E_h/a0.
    """

    cluster: str
    geometry: str = field(repr=False)
    program: Mapping[str, Any]
    driver: str = "gradient"
    bsse: tuple[str, ...] = ("nocp",)
    max_nbody: int = 3
    noise: float = 0.0

    @property
    def name(self) -> str:
        """The program's."""
        return str(self.program["program"])

    @property
    def model(self) -> str:
        """Method and basis in the words of the field."""
        return "/".join(str(self.program[key]) for key in ("method", "basis") if key in self.program)

    @property
    def monomers(self) -> System:
        """The same, as far as single fragments."""
        return attrs.evolve(self, bsse=("nocp",), max_nbody=1)

    def harness(self) -> Any:
        """The program's harness; a ProgramError says how to install what is missing."""
        return find_harness(self.name, harnesses([self.name]).get(self.name))

    @property
    def job(self) -> dict[str, Any]:
        """The tables of a job file."""
        mbe = {"driver": self.driver, "bsse_type": list(self.bsse), "max_nbody": self.max_nbody}
        return {
            "molecule": {"geometry": self.geometry},
            "mbe": {**mbe, "return_total_data": True},
            "program": dict(self.program),
        }


def argon_cluster(nfr: int) -> System:
    """Argon atoms near the points of a cubic lattice, so that no two pairs are alike, through 4-body terms."""
    points = np.stack(np.unravel_index(np.arange(nfr), (3, 3, math.ceil(nfr / 9))), axis=1)
    places = 3.8 * points + 0.3 * np.sin(1.0 + np.arange(3 * nfr)).reshape(nfr, 3)
    geometry = "\n--\n".join(f"Ar {x:.4f} {y:.4f} {z:.4f}" for x, y, z in places)
    program = {"program": "model-potential", "method": "lj-atm"}
    return System(f"Ar{nfr}", geometry, program, max_nbody=4)


_trimer = partial(System, "(H2O)3", _WATER)
_ALL = ("nocp", "cp", "vmfc")
_HF = {"method": "hf", "basis": "sto-3g"}
_PSI4 = {"scf_type": "pk", "e_convergence": 1e-10, "d_convergence": 1e-8}

SYSTEMS = (
    argon_cluster(13),
    _trimer({"program": "tblite", "method": "gfn2-xtb"}, bsse=_ALL),
    _trimer({"program": "xtb", "method": "gfn2-xtb"}, bsse=_ALL),
    _trimer({"program": "mopac", "method": "pm7"}, bsse=_ALL),
    _trimer({"program": "pyscf", **_HF}, bsse=_ALL),
    # Half a second each, most of it to start the program: less of these makes the whole take about a minute.
    _trimer({"program": "nwchem", **_HF, "keywords": {"scf__thresh": 1e-8}}, "energy", ("nocp", "cp"), noise=1e-10),
    _trimer({"program": "psi4", **_HF, "keywords": _PSI4}, "energy", ("nocp", "cp")),
)


def standard_systems(programs: Collection[str] = ()) -> list[System]:
    """The systems of some programs; all of them if none is named.

    Raises
    ------
    ProgramError
        If there is no system for one, or it is not installed.
    """
    known = {system.name: system for system in SYSTEMS}
    for name in programs:
        if name not in known:
            raise ProgramError(f"There is no standard system for the program {name!r}. Known: {', '.join(known)}.")
        known[name].harness()
    return [system for system in SYSTEMS if not programs or system.name in programs]


@frozen
class Check:
    """A comparison with what is known otherwise.

    Attributes
    ----------
    programs
        Whose.
    what
        The other side.
    difference, tolerance
        Found, and allowed; E_h, and E_h/a0 of gradients.
    """

    programs: str
    what: str
    difference: float
    tolerance: float

    @property
    def problem(self) -> str | None:
        """What is wrong, if anything is."""
        if self.difference <= self.tolerance:
            return None
        found = f"differs by {self.difference:.1e}, and {self.tolerance:.0e} is allowed"
        return f"{self.programs}, compared with {self.what}: {found}."


def check_alone(system: System, found: RunResult) -> Iterator[Check]:
    """A result against the whole cluster, computed in one piece; the model potential's also against its formula."""
    properties = found.result.properties  # of the first treatment, nocp
    total = {kind: getattr(properties, f"return_{kind}") for kind in dict.fromkeys(["energy", system.driver])}
    whole = _whole(system, found)
    closed = system.name == "model-potential"
    for kind, value in total.items():
        what = f"the {kind} of the whole cluster"
        yield Check(system.name, what, _apart(value, whole[kind]), _ROUNDING if closed else _CONVERGENCE)
    if closed:
        formula = _closed_form(found.plan.spec.molecule, system.program.get("keywords", {}))
        what = "the energy by the formula"
        yield Check(system.name, what, _apart(total["energy"], formula), _ROUNDING)
        beyond = [value for frag, value in found.contributions["nocp"].items() if len(frag) > 3]
        yield Check(system.name, "zero, in 4-body contributions", _apart(beyond, 0.0), _ROUNDING)


def check_together(found: Mapping[System, RunResult]) -> Iterator[Check]:
    """Interaction energies of programs that have a method in common, each of which knows nothing of the other."""
    for (one, first), (other, second) in combinations(found.items(), 2):
        if (one.model, one.cluster) == (other.model, other.cluster):
            ours, theirs = _interactions(first), _interactions(second)
            difference = max(_apart(ours[key], theirs[key]) for key in ours if key in theirs)
            what = f"each other's {one.model} interactions"
            yield Check(f"{one.name}, {other.name}", what, difference, _IMPLEMENTATIONS)


def _apart(one: Any, other: Any) -> float:
    return float(np.max(np.abs(np.asarray(one) - np.asarray(other))))


def _interactions(found: RunResult) -> dict[str, float]:
    properties = found.result.properties.model_dump()
    return {key: value for key, value in properties.items() if "_interaction_energy_through_" in key}


def _whole(system: System, found: RunResult) -> dict[str, NDArray[np.float64]]:
    """What the program gives for the molecule of the input as it is: no fragment is cut, nothing is added up."""
    many = found.plan.spec.specification
    specifications = {mc: each.model_copy(update={"driver": many.driver}) for mc, each in many.specification.items()}
    cluster = found.plan.spec.molecule
    context = Context(Cluster.of(cluster), specifications, harnesses([system.name]), found.config.task)
    return Programs(context).whole(cluster)


def _closed_form(molecule: Any, keywords: Mapping[str, Any]) -> float:
    """The potential as its page has it: Lennard-Jones pairs and Axilrod-Teller-Muto triples of like atoms, E_h."""
    (element,) = set(molecule.symbols.tolist())
    known = model_parameters(keywords)
    depth, rmin, c9 = (table[element] for table in (known.epsilon, known.rmin, known.c9))
    pairs = [(rmin / math.dist(a, b)) ** 6 for a, b in combinations(molecule.geometry.tolist(), 2)]
    triples = [c9 * _triple(*three) for three in combinations(molecule.geometry.tolist(), 3)]
    return math.fsum([*(depth * (x * x - 2 * x) for x in pairs), *triples])


def _triple(*atoms: list[float]) -> float:
    """[1 + 3 cos(i) cos(j) cos(k)] / (r_ij r_jk r_ki)^3, the cosines by the law of cosines."""
    a, b, c = (math.dist(one, other) for one, other in combinations(atoms, 2))
    cosines = (a * a + b * b - c * c) * (b * b + c * c - a * a) * (c * c + a * a - b * b) / (8 * (a * b * c) ** 2)
    return (1 + 3 * cosines) / (a * b * c) ** 3
