"""What programs make of ghost atoms, found out before a run that needs them.

A ghost lends its basis functions and is otherwise not there. Several harnesses never look which atoms are real: the
program then computes the ghosts as atoms, reports success, and a counterpoise correction is nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from mbexec.core.context import Cluster, Context
from mbexec.core.errors import InputError
from mbexec.core.messages import gist
from mbexec.core.program import Programs, run_task
from mbexec.core.types import Task

__all__ = ["settle_ghosts"]

# Harnesses of QCEngine whose code writes ghosts into the program's input.
_HONOURED = frozenset({"cfour", "gamess", "jaguar", "nwchem", "psi4", "qchem"})
# Programs without a basis of the user's: semi-empirical methods, force fields, learnt potentials, dispersion.
_STRIPPED = frozenset(
    {"aimnet2", "dftd3", "dftd4", "gcp", "mace", "mctc-gcp", "mopac", "mp2d", "openmm", "orb", "rdkit", "s-dftd3"}
    | {"torchani", "xtb"}
)
_SAME = 1e-10  # E_h
_NOISES = 100  # how far beyond what repeats differ by a difference must be to mean something
_CLOSE = 5.0  # a0


def settle_ghosts(context: Context, labels: Iterable[str]) -> Context:
    """The context with the model chemistries whose program must not see ghosts.

    A program of which nothing is known is asked: a dimer with one monomer ghosted must differ from the dimer, or ghosts
    are taken for atoms; and from the bare monomer, or they are dropped, which only a method without a basis may do.
    Each is computed twice, so that noise is not taken for a difference.

    Parameters
    ----------
    context
        Of the run.
    labels
        Model chemistries that have tasks with ghosts.

    Raises
    ------
    InputError
        If a program does neither honour ghosts nor do without a basis.
    """
    return attrs.evolve(context, stripped=frozenset(mc for mc in labels if _policy(context, mc) == "stripped"))


def _policy(context: Context, mc: str) -> str:
    program = context.specifications[mc].program.lower()
    programs = Programs(context)
    said = programs.ghosts(program)
    if said is not None:
        return said
    if program not in context.harnesses and program in _HONOURED:
        return "honoured"
    if program not in context.harnesses and program in _STRIPPED:
        return "stripped"
    return _asked(context, mc)


def _asked(context: Context, mc: str) -> str:
    """Compute a close dimer, one of its monomers with the other as ghosts, and that monomer alone."""
    specification = context.specifications[mc]
    second = _nearest_to_first(context.cluster)
    programs = Programs(attrs.evolve(context, cluster=_approached(context.cluster, second), bodies=False))
    tasks = [Task(0, mc, frag, bas) for frag, bas in (((1, second),) * 2, ((1,), (1, second)), ((1,), (1,)))]
    once, again = ([_energy(task, programs, specification.program) for task in tasks] for _ in range(2))
    dimer, ghosted, alone = once
    noise = max(abs(a - b) for a, b in zip(once, again, strict=True))
    same = max(_SAME, _NOISES * noise)
    if abs(ghosted - dimer) > same and abs(ghosted - alone) > same:
        return "honoured"
    if not specification.model.basis:
        return "stripped"
    if noise > _SAME:
        what = f"gives energies that differ by {noise:.0e} E_h from call to call, too much to see what ghost atoms do"
    elif abs(ghosted - alone) <= same:
        what = "drops ghost atoms"
    else:
        what = "takes ghost atoms for real ones"
    raise InputError(f"{specification.program!r} {what}, so cp and vmfc can't be had from it; use nocp.")


def _energy(task: Task, programs: Programs, name: str) -> float:
    result = run_task(task, programs)
    if result.error is not None:
        raise InputError(
            f"cp and vmfc need ghost atoms, but {name!r} failed when asked what it makes of them; "
            f"use nocp. It said: {gist(result.error.error_message)}"
        )
    energy: float = result.values["energy"]
    return energy


def _nearest_to_first(cluster: Cluster) -> int:
    """The fragment, 1-based, whose first atom is nearest to that of the first fragment."""
    places = cluster.geometry[[atoms[0] for atoms in cluster.fragments]]
    return 2 + int(np.linalg.norm(places[1:] - places[0], axis=1).argmin())


def _approached(cluster: Cluster, second: int) -> Cluster:
    """The cluster with one fragment moved so close to the first that basis functions overlap."""
    here, there = cluster.fragments[0], cluster.fragments[second - 1]
    apart = cluster.geometry[there][None] - cluster.geometry[here][:, None]
    distance = np.linalg.norm(apart, axis=-1)
    nearest = np.unravel_index(distance.argmin(), distance.shape)
    geometry = cluster.geometry.copy()
    geometry[there] -= apart[nearest] * max(0.0, 1 - _CLOSE / distance[nearest])
    return attrs.evolve(cluster, geometry=geometry)
