"""What the command line shows: results, plans, settings and plugins as tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import qcelemental as qcel
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbexec.core import messages
from mbexec.core.convergence import ACCURACY, convergence, model_of, sums
from mbexec.core.cost import costs

if TYPE_CHECKING:
    from mbexec.core.inspection import LevelStatus, Recomputed
    from mbexec.core.manager import InstalledPlugin
    from mbexec.core.metrics import RunReport
    from mbexec.core.settings import RunConfig, TaskSettings
    from mbexec.core.types import Plan

__all__ = [
    "amplification_table",
    "failures",
    "plan_table",
    "plugins_table",
    "recomputed_table",
    "results",
    "settings_table",
    "sheet",
    "status_table",
    "summary",
]

_TREATMENTS = {
    "nocp": "no counterpoise correction (nocp)",
    "cp": "counterpoise corrected (cp)",
    "vmfc": "Valiron-Mayer function counterpoise (vmfc)",
}
_SHOWN_ATOMS = 40
_SHOWN_FAILURES = 20


def _table(*columns: str, title: str | None = None, left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the rest numbers. Where it is too wide, no digit is lost."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return table


def sheet(title: str, columns: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], left: int) -> Table:
    """Rows of text in groups; the first `left` columns are text, the rest numbers. Headings are as narrow as can be."""
    table = _table(*(column.replace(" ", "\n", 1) for column in columns), title=title, left=left)
    table.pad_edge = table.show_edge = False
    for rows in groups:
        for row in rows:
            table.add_row(*map(Text, row))
        table.add_section()
    return table


def results(plan: Plan, result: Any) -> RenderableType:
    """A finished run: n-body energies of each BSSE treatment, and the gradient if there is one."""
    properties = result.properties.model_dump()
    further = (result.extras.get("mbexec") or {}).get("properties", {})
    shown = _sums(plan, properties | further)
    if not shown and properties.get("return_energy") is not None:  # a planner that merges in a way of its own
        table = _table("energy", "E_h", "kcal/mol", "kJ/mol")
        table.add_row("result", *_in_units(properties["return_energy"]))
        shown.append(table)
    return Group(*shown, *_gradients(plan, properties))


def _sums(plan: Plan, properties: dict[str, Any]) -> list[RenderableType]:
    """The energies of each BSSE treatment, then further properties, as far as they are there."""
    treatments = list(dict.fromkeys(row.bsse for row in plan.expansion.rows))
    found = [_energies(plan, properties, bsse) for bsse in treatments]
    found += [_further(plan, properties, bsse, name) for name in plan.properties for bsse in treatments]
    return [table for table in found if table.row_count]


def _energies(plan: Plan, properties: dict[str, Any], bsse: str) -> Table:
    table = _table("energy", "n-body", "E_h", "kcal/mol", "kJ/mol", title=f"Energies, {_TREATMENTS.get(bsse, bsse)}")
    return _with_sums(table, plan, properties, bsse, "energy", _in_units)


def _further(plan: Plan, properties: dict[str, Any], bsse: str, name: str) -> Table:
    """A property besides energies and their derivatives, in the unit that QCSchema has for it."""
    axes = {(): [""], (3,): list("xyz"), (3, 3): ["xx", "xy", "xz", "yy", "yz", "zz"]}[plan.properties[name]]
    unit = {0: "E_h", 1: "e a0", 2: "e a0^2"}[len(plan.properties[name])]
    columns = [f"{axis} / {unit}".removeprefix(" / ") for axis in axes]
    table = _table("sum", "n-body", *columns, title=f"{name}, {_TREATMENTS.get(bsse, bsse)}")
    return _with_sums(table, plan, properties, bsse, name, _components)


def _components(value: Any) -> list[str]:
    """A number, a vector, or the upper triangle of a tensor."""
    array = np.asarray(value)
    digits = 10 if array.ndim == 0 else 6
    return [f"{number:.{digits}f}" for number in (array[np.triu_indices(3)] if array.ndim == 2 else array.ravel())]


def _with_sums(
    table: Table, plan: Plan, properties: dict[str, Any], bsse: str, name: str, cells: Callable[[Any], Iterable[str]]
) -> Table:
    """A table with rows for a property's totals, interactions and contributions."""
    names = {
        "total": f"{bsse}_corrected_total_{name}_through_{{}}_body",
        "interaction": f"{bsse}_corrected_interaction_{name}_through_{{}}_body",
        "contribution": f"{bsse}_corrected_{{}}_body_contribution_to_{name}",
    }
    rows = [row for row in plan.expansion.rows if row.bsse == bsse]
    for kind, key in names.items():
        heading = kind
        for row in rows if kind == "total" else rows[1:]:
            value = properties.get(key.format(row.nbody))
            if value is not None:
                table.add_row(heading, "supersystem" if row.supersystem else str(row.nbody), *cells(value))
                heading = ""
        table.add_section()
    return table


def _in_units(energy: float) -> tuple[str, str, str]:
    kcal, kj = energy * qcel.constants.hartree2kcalmol, energy * qcel.constants.hartree2kJmol
    return f"{energy:.10f}", f"{kcal:.4f}", f"{kj:.4f}"


def _gradients(plan: Plan, properties: dict[str, Any]) -> list[RenderableType]:
    """The gradient that is returned, if there is one."""
    found = properties.get("return_gradient")
    return [] if found is None else [_gradient(plan, np.asarray(found).reshape(-1, 3))]


def _gradient(plan: Plan, gradient: Any) -> RenderableType:
    table = _table("atom", "x", "y", "z", title="Gradient / E_h/a0")
    for number, (symbol, row) in enumerate(zip(plan.spec.molecule.symbols, gradient, strict=True), start=1):
        if number > _SHOWN_ATOMS:
            return Group(table, Text(f"... and {len(gradient) - _SHOWN_ATOMS} more atoms; -o writes them all"))
        table.add_row(f"{number} {symbol}", *(f"{value:.10f}" for value in row))
    return table


def failures(plan: Plan, result: Any) -> RenderableType:
    """What failed, in whose words, and what is known all the same."""
    extras = result.error.extras or {}
    failed, partial = extras.get("failed", []), extras.get("partial", {})
    not_run = partial.get("not_run", {}).get("count", 0)
    told = f"{_count(len(failed), 'fragment calculation')} failed" + (f", {not_run} did not run" if not_run else "")
    shown = [Text(told, style="bold red"), *(_kinds(plan, failed) if failed else ())]
    return Group(*shown, *_exact(plan, partial.get("properties", {})), *_estimates(plan, partial.get("estimates", {})))


def _kinds(plan: Plan, failed: Sequence[dict[str, str]]) -> list[RenderableType]:
    """Failures that differ in nothing but numbers in one row."""
    kinds: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for entry in failed:
        model = model_of(plan, json.loads(entry["label"])[0])
        kinds.setdefault((model, entry["error_type"], messages.kind(entry["error_message"])), []).append(entry)
    table = _table("fragment calculation", "error", "message", left=3)
    for (model, error_type, _), entries in list(kinds.items())[:_SHOWN_FAILURES]:
        more = f"\nand {len(entries) - 1} more" if len(entries) > 1 else ""
        message = f"{model}: {messages.gist(entries[0]['error_message'])}"
        table.add_row(Text(entries[0]["label"] + more), error_type, Text(message))
    rest = len(kinds) - _SHOWN_FAILURES
    tail = [Text(f"... and {rest} more kinds of failure")] if rest > 0 else []
    return [table, *tail, Text("-o FILE writes every message in full.\n")]


def _exact(plan: Plan, properties: dict[str, Any]) -> list[RenderableType]:
    """What does not depend on what is missing."""
    tables = [*_sums(plan, properties), *_gradients(plan, properties)]
    return [Text("Exact: what is missing does not count in these.\n", style="bold green"), *tables] if tables else []


def _estimates(plan: Plan, estimates: dict[str, Any]) -> list[RenderableType]:
    """What is known of the sums that depend on what is missing, and why some have no bound."""
    treatments = dict.fromkeys(row.bsse for row in plan.expansion.rows)
    numbers = ["energy", *(name for name, shape in plan.properties.items() if not shape)]
    tables = [_estimated(plan, estimates, bsse, name) for name in numbers for bsse in treatments]
    shown = [table for table in tables if table.row_count]
    told = list(dict.fromkeys(found["reason"] for found in estimates.values() if found["reason"]))
    if any(found["bound"] is not None for found in estimates.values()):
        told.append("The bound is no theorem: it takes increments to decay with distance.")
    if not shown:
        return []
    heading = Text("Estimates: these depend on what is missing.\n", style="bold yellow")
    legend = Text("An increment is what a set of fragments adds beyond its subsets.")
    return [heading, *shown, legend, *map(Text, told), Text("")]


def _estimated(plan: Plan, estimates: dict[str, Any], bsse: str, name: str) -> Table:
    title = f"{'Energies' if name == 'energy' else name}, {_TREATMENTS.get(bsse, bsse)}"
    table = _table("energy", "n-body", "unknown increments", "estimate / E_h", "+- E_h", "+- kJ/mol", title=title)
    return _with_sums(table, plan, estimates, bsse, name, _estimate)


def _estimate(found: dict[str, Any]) -> list[str]:
    """How many increments are unknown, what the others add up to, and the bound."""
    shares = f"{found['unknown']} of {found['of']}"
    estimate = "-" if found["estimate"] is None else f"{found['estimate']:.8f}"
    if found["bound"] is None:
        return [shares, estimate, "-", "-"]
    return [shares, estimate, f"{found['bound']:.8f}", f"{found['bound'] * qcel.constants.hartree2kJmol:.4f}"]


def summary(report: RunReport) -> str:
    """The run in a line."""
    executed = sum(level.executed for level in report.levels)
    busy = sum(level.wall_time for level in report.levels)
    reused = sum(level.reused for level in report.levels)
    known = f", {reused} known before" if reused else ""
    return (
        f"{_count(executed, 'fragment calculation')} run{known} on {report.executor}, "
        f"{_count(report.workers, 'worker')}: "
        f"{report.wall_time:.2f} s ({busy:.2f} s in programs)"
    )


def plan_table(plan: Plan) -> RenderableType:
    """How many fragment calculations there are, by nbody and model chemistry, and what they are expected to cost."""
    expansion = plan.expansion
    sizes = expansion.sets.sizes
    nat = np.array([len(atoms) for atoms in plan.spec.molecule.fragments])
    cost = costs(plan)
    table = _table("n-body", "model chemistry", "calculations", "largest basis", "cost", left=2)
    for nbody in np.unique(expansion.nbody).tolist():
        for mc, label in enumerate(expansion.mcs):
            here = (expansion.nbody == nbody) & (expansion.mc == mc)
            chosen = expansion.bas[here]
            if len(chosen):
                widest = max(chosen.tolist(), key=lambda i: int(sizes[i]))
                atoms = int(nat[np.array(expansion.sets[widest]) - 1].sum())
                basis = f"{_count(int(sizes[widest]), 'fragment')}, {_count(atoms, 'atom')}"
                share = _percent(float(cost[here].sum() / cost[expansion.mc == mc].sum()))
                table.add_row(str(nbody), model_of(plan, label), str(len(chosen)), basis, share)
    table.add_section()
    table.add_row("all", "", str(len(plan)), "", "")
    own = "" if len(expansion.mcs) == 1 else " of each model chemistry's own"
    return Group(table, Text(f"cost is the estimated share{own}, by the formal scaling of the method.\n"))


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def amplification_table(plan: Plan) -> RenderableType:
    """How errors of the single calculations grow in the sums that are returned, and how large they are."""
    table = _table("sum", "sum of |c|", "root of sum of c^2", "needed of each / E_h", title="How errors grow")
    for name, which in sums(plan):
        worst, random = plan.expansion.amplification(*which)
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _own(settings: TaskSettings) -> dict[str, Any]:
    return attrs.asdict(settings, recurse=False)


def settings_table(config: RunConfig) -> Table:
    """Each setting, its value and where it is from."""
    table = _table("setting", "value", "from", left=3)
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
    table = _table("plugin", "can be", "active", "distribution", "version", "problem", left=6)
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


def status_table(levels: Sequence[LevelStatus]) -> Table:
    """How far each level of a job is."""
    table = _table("n-body", "calculations", "done", "failed", "to do", title="What the store has", left=0)
    for level in levels:
        table.add_row(*map(str, _numbers_of(str(level.nbody), level.ntasks, level.done, level.failed)))
    sums = [sum(getattr(level, name) for level in levels) for name in ("ntasks", "done", "failed")]
    table.add_section()
    table.add_row(*map(str, _numbers_of("all", *sums)))
    return table


def _numbers_of(name: str, ntasks: int, done: int, failed: int) -> tuple[str, int, int, int, int]:
    return name, ntasks, done, failed, ntasks - done - failed


def recomputed_table(found: Sequence[Recomputed], repeat: int) -> RenderableType:
    """What computing stored results again gave: those that differ one by one, then all of them in a sentence."""
    told = {
        "same": "the same to the last bit",
        "noise": "different by noise",
        "changed": "changed",
        "unsteady": "not the same each time",
        "failed": "failed",
    }
    table = _table("calculation", "verdict", "largest difference", title="Stored results, computed again", left=2)
    for each in found:
        if each.verdict != "same":
            why = told[each.verdict] + (f": {messages.gist(each.said)}" if each.said else "")
            table.add_row(
                Text(each.task.label), Text(why), "" if np.isnan(each.difference) else f"{each.difference:.1e}"
            )
    counts = [(sum(each.verdict == verdict for each in found), words) for verdict, words in told.items()]
    sentence = f"{len(found)} stored results, computed {repeat} times each: "
    sentence += ", ".join(f"{count} {words}" for count, words in counts if count) + "."
    return Group(*([table] if table.row_count else []), Text(sentence))
