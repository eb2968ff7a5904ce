"""Results of runs as tables, and what failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbexec.core import messages
from mbexec.core.convergence import model_of
from mbexec.tables import omitted
from mbexec.tables.layout import counted, table_of

if TYPE_CHECKING:
    from mbexec.core.metrics import RunReport
    from mbexec.core.types import Plan

__all__ = ["failures", "results", "summary"]

_TREATMENTS = {
    "nocp": "no counterpoise correction (nocp)",
    "cp": "counterpoise corrected (cp)",
    "vmfc": "Valiron-Mayer function counterpoise (vmfc)",
}
_SHOWN_ATOMS = 40
_SHOWN_FAILURES = 20


def results(plan: Plan, result: Any) -> RenderableType:
    """A finished run: n-body energies of each BSSE treatment, and the gradient if there is one."""
    properties = result.properties.model_dump()
    further = (result.extras.get("mbexec") or {}).get("properties", {})
    shown = _sums(plan, properties | further)
    if not shown and properties.get("return_energy") is not None:  # a planner that merges in a way of its own
        table = table_of("energy", "E_h", "kcal/mol", "kJ/mol")
        table.add_row("result", *_in_units(properties["return_energy"]))
        shown.append(table)
    own = result.extras.get("mbexec") or {}
    return Group(*shown, *_gradients(plan, properties), *_left_out(plan, own), *_screening(plan, own))


def _left_out(plan: Plan, own: dict[str, Any]) -> list[RenderableType]:
    """What the energies do not count, and how large that may be."""
    if not (found := own.get("left_out")):
        return []
    words = omitted.left_out_words(found, supersystem=plan.expansion.has_supersystem)
    table = _filled(table_of(*omitted.LEFT_OUT, title="Left out of the expansion"), omitted.left_out_rows(found))
    return [table, Text(f"{words[0]}\n"), *map(Text, words[1:])]


def _screening(plan: Plan, own: dict[str, Any]) -> list[RenderableType]:
    """What screening by energy has left out."""
    if not (told := own.get("screening")):
        return []
    table = _filled(table_of(*omitted.SCREENING, title="Screening by energy"), omitted.screening_rows(told))
    return [table, Text(f"{omitted.screening_words(told, supersystem=plan.expansion.has_supersystem)}\n")]


def _filled(table: Table, rows: Iterable[Sequence[str]]) -> Table:
    for row in rows:
        table.add_row(*row)
    return table


def _sums(plan: Plan, properties: dict[str, Any]) -> list[RenderableType]:
    """The energies of each BSSE treatment, then further properties, as far as they are there."""
    treatments = list(dict.fromkeys(row.bsse for row in plan.expansion.rows))
    found = [_energies(plan, properties, bsse) for bsse in treatments]
    found += [_further(plan, properties, bsse, name) for name in plan.properties for bsse in treatments]
    return [table for table in found if table.row_count]


def _energies(plan: Plan, properties: dict[str, Any], bsse: str) -> Table:
    table = table_of("energy", "n-body", "E_h", "kcal/mol", "kJ/mol", title=f"Energies, {_TREATMENTS.get(bsse, bsse)}")
    return _with_sums(table, plan, properties, bsse, "energy", _in_units)


def _further(plan: Plan, properties: dict[str, Any], bsse: str, name: str) -> Table:
    """A property besides energies and their derivatives, in the unit that QCSchema has for it."""
    axes = {(): [""], (3,): list("xyz"), (3, 3): ["xx", "xy", "xz", "yy", "yz", "zz"]}[plan.properties[name]]
    unit = {0: "E_h", 1: "e a0", 2: "e a0^2"}[len(plan.properties[name])]
    columns = [f"{axis} / {unit}".removeprefix(" / ") for axis in axes]
    table = table_of("sum", "n-body", *columns, title=f"{name}, {_TREATMENTS.get(bsse, bsse)}")
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
    import qcelemental as qcel  # takes longer than `mbexec --help` may

    kcal, kj = energy * qcel.constants.hartree2kcalmol, energy * qcel.constants.hartree2kJmol
    return f"{energy:.10f}", f"{kcal:.4f}", f"{kj:.4f}"


def _gradients(plan: Plan, properties: dict[str, Any]) -> list[RenderableType]:
    """The gradient that is returned, if there is one."""
    found = properties.get("return_gradient")
    return [] if found is None else [_gradient(plan, np.asarray(found).reshape(-1, 3))]


def _gradient(plan: Plan, gradient: Any) -> RenderableType:
    table = table_of("atom", "x", "y", "z", title="Gradient / E_h/a0")
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
    others = sum(entry.get("duplicates", 0) for entry in failed)
    told = f"{counted(len(failed), 'fragment calculation')} failed"
    told += f", with {counted(others, 'other')} that are the same by symmetry" if others else ""
    told += f", {not_run} did not run" if not_run else ""
    shown = [Text(told, style="bold red"), *(_kinds(plan, failed) if failed else ())]
    return Group(*shown, *_exact(plan, partial.get("properties", {})), *_estimates(plan, partial.get("estimates", {})))


def _kinds(plan: Plan, failed: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """Failures that differ in nothing but numbers in one row."""
    kinds: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in failed:
        model = model_of(plan, json.loads(entry["label"])[0])
        kinds.setdefault((model, entry["error_type"], messages.kind(entry["error_message"])), []).append(entry)
    table = table_of("fragment calculation", "error", "message", left=3)
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
    table = table_of("energy", "n-body", "unknown increments", "estimate / E_h", "+- E_h", "+- kJ/mol", title=title)
    return _with_sums(table, plan, estimates, bsse, name, _estimate)


def _estimate(found: dict[str, Any]) -> list[str]:
    """How many increments are unknown, what the others add up to, and the bound."""
    shares = f"{found['unknown']} of {found['of']}"
    estimate = "-" if found["estimate"] is None else f"{found['estimate']:.8f}"
    if found["bound"] is None:
        return [shares, estimate, "-", "-"]
    return [shares, estimate, f"{found['bound']:.8f}", _in_units(found["bound"])[2]]


def summary(report: RunReport) -> str:
    """The run in a line."""
    known = f" ({report.failed} failed)" if report.failed else ""
    known += f", {report.reused} known before" if report.reused else ""
    known += f", {report.duplicates} known by symmetry" if report.duplicates else ""
    known += f" ({report.left_out} left out)" if report.left_out else ""
    alone = ""
    if report.serial_time is not None and report.workers > 1:
        alone = f"; one after the other {report.serial_time:.2f} s (speedup {report.speedup:.2f})"
    return (
        f"{counted(report.executed, 'fragment calculation')} run{known} on {report.executor}, "
        f"{counted(report.workers, 'worker')}: {report.wall_time:.2f} s{alone}"
    )
