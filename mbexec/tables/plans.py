"""Plans, settings and plugins as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbexec.core.convergence import ACCURACY, convergence, model_of, sums
from mbexec.core.cost import costs
from mbexec.tables.layout import counted, table_of

if TYPE_CHECKING:
    from mbexec.core.manager import InstalledPlugin
    from mbexec.core.settings import RunConfig, TaskSettings
    from mbexec.core.types import Plan

__all__ = ["amplification_table", "plan_table", "plugins_table", "settings_table"]

_ROUNDING = 1e-8  # of coordinates in QCSchema, a0


def plan_table(plan: Plan) -> RenderableType:
    """How many fragment calculations there are, by nbody and model chemistry, and what they are expected to cost."""
    expansion = plan.expansion
    sizes = expansion.sets.sizes
    nat = np.array([len(atoms) for atoms in plan.spec.molecule.fragments])
    runs, undecided = plan.runs, plan.undecided
    cost = np.where(runs, costs(plan), 0.0)
    further = {"unique": runs} if plan.symmetry is not None else {}
    further |= {"candidates": undecided} if undecided.any() else {}
    table = table_of("n-body", "model chemistry", "calculations", *further, "largest basis", "cost", left=2)
    for nbody in np.unique(expansion.nbody).tolist():
        for mc, label in enumerate(expansion.mcs):
            here = (expansion.nbody == nbody) & (expansion.mc == mc)
            chosen = expansion.bas[here]
            if len(chosen):
                widest = max(chosen.tolist(), key=lambda i: int(sizes[i]))
                atoms = int(nat[np.array(expansion.sets[widest]) - 1].sum())
                basis = f"{counted(int(sizes[widest]), 'fragment')}, {counted(atoms, 'atom')}"
                share = _percent(float(cost[here].sum() / cost[expansion.mc == mc].sum()))
                numbers = [len(chosen), *(int(which[here].sum()) for which in further.values())]
                table.add_row(str(nbody), model_of(plan, label), *map(str, numbers), basis, share)
    table.add_section()
    numbers = [len(plan), *(int(which.sum()) for which in further.values())]
    table.add_row("all", "", *map(str, numbers), "", "")
    own = "" if len(expansion.mcs) == 1 else " of each model chemistry's own"
    told = [f"cost is the estimated share{own}, by the formal scaling of the method.", *_left_out(plan), *_same(plan)]
    if "candidates" in further:
        told.append("Candidates are those that run only if the energies of the others say so.")
    return Group(table, Text("\n".join(told) + "\n"))


def _same(plan: Plan) -> Iterator[str]:
    """How many calculations run since others are the same as they."""
    if plan.symmetry is not None:
        count = f"{counted(len(plan), 'calculation')}, of which {int(plan.runs.sum())} are unique within"
        deviation = plan.symmetry.deviation
        shown = f"{deviation:.1e}" if deviation >= _ROUNDING else f"below {_ROUNDING:g}"
        largest = f"largest deviation of an atom: {shown} a0"
        yield f"{count} {plan.symmetry.tolerance:g} a0 and run ({largest})."


def _left_out(plan: Plan) -> Iterator[str]:
    """How many sets of each order are not computed."""
    counts = {nbody: counts for nbody, counts in plan.expansion.left_out.items() if counts[0]}
    if counts:
        shares = [f"{left:,} of {of:,} of {nbody} fragments" for nbody, (left, of) in counts.items()]
        yield f"Fragment sets that are left out: {'; '.join(shares)}."


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def amplification_table(plan: Plan) -> RenderableType:
    """How errors of the single calculations grow in the sums that are returned, and how large they are."""
    table = table_of("sum", "sum of |c|", "root of sum of c^2", "needed of each / E_h", title="How errors grow")
    for name, which in sums(plan):
        worst, random = plan.amplification(*which)
        if worst:
            table.add_row(name, f"{worst:.0f}", f"{random:.1f}", f"{ACCURACY / random:.0e}")
    wanted = f"the last column makes a sum good to {ACCURACY:.0e} E_h if errors are random."
    told = [f"c is how often each energy counts; {wanted}"]
    used = [plan.expansion.mcs[mc] for mc in np.unique(plan.expansion.mc).tolist()]
    told += [line for label in used if (line := _converged(plan, label))]
    return Group(table, *map(Text, told))


def _converged(plan: Plan, label: str) -> str:
    """How good the energies of a model chemistry are; nothing where nothing has to converge."""
    found = convergence(plan.spec.specification.specification[label])
    if found is None:
        return f"How far energies of {model_of(plan, label)!r} converge is not known here."
    if not found.thresholds:
        return ""
    return f"Energies of {model_of(plan, label)!r} are good to about {found.error:.0e} E_h ({found.told})."


def _own(settings: TaskSettings) -> dict[str, Any]:
    return attrs.asdict(settings, recurse=False)


def settings_table(config: RunConfig) -> Table:
    """Each setting, its value and where it is from."""
    table = table_of("setting", "value", "from", left=3)
    values = {
        **{f"run.{name}": value for name, value in attrs.asdict(config.run, recurse=False).items()},
        **{f"task.{name}": value for name, value in _own(config.task).items()},
        **{
            f"task.{nbody}.{name}": value
            for nbody, task in config.task_of.items()
            for name, value in _own(task).items()
        },
        **{f"plugin.{name}.{key}": v for name, keys in config.plugin.items() for key, v in keys.items()},
    }
    values = {key: value for key, value in values.items() if key in config.sources}
    for key, value in values.items():
        shown = ", ".join(value) if isinstance(value, tuple) else value
        table.add_row(key, Text("-" if shown in (None, "") else str(shown)), Text(config.sources[key]))
    return table


def plugins_table(installed: Iterable[InstalledPlugin], config: RunConfig) -> Table:
    """Installed plugins and which of them the settings choose."""
    active = {config.run.executor, config.run.planner, config.run.store, *config.run.reporters}
    table = table_of("plugin", "can be", "active", "distribution", "version", "problem", left=6)
    for plugin in installed:
        table.add_row(
            plugin.name,
            ", ".join(plugin.roles),
            "yes" if plugin.name in active else "",
            plugin.distribution,
            plugin.version,
            Text(plugin.error or "", style="red"),
        )
    return table
