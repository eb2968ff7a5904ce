"""What stores hold as tables, beside a job and alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbexec.core import messages
from mbexec.tables.layout import printable, table_of

if TYPE_CHECKING:
    from mbexec import TaskResult
    from mbexec.core.inspection import LevelStatus, Recomputed
    from mbexec.plugins.sqlite.contents import Group as Part
    from mbexec.plugins.sqlite.contents import Kept

__all__ = ["SHORT_KEY", "contents_table", "fragments_table", "lines_of", "recomputed_table", "size_of", "status_table"]

SHORT_KEY = 10  # characters of a key that are shown; enough to tell a hundred thousand apart
_UNITS = {"energy": "E_h", "gradient": "E_h/a0", "hessian": "E_h/a0^2"}
_UNITS_OF_RANK = ("E_h", "e a0", "e a0^2")  # of QCSchema's other properties


def status_table(levels: Sequence[LevelStatus]) -> Table:
    """How far each level of a job is."""
    shown = {"ntasks": "calculations", "done": "done", "failed": "failed", "left_out": "left out", "to_do": "to do"}
    if not any(level.left_out for level in levels):
        del shown["left_out"]
    table = table_of("n-body", *shown.values(), title="What the store has", left=0)
    for level in levels:
        table.add_row(str(level.nbody), *(str(getattr(level, name)) for name in shown))
    table.add_section()
    table.add_row("all", *(str(sum(getattr(level, name) for level in levels)) for name in shown))
    return table


def recomputed_table(found: Sequence[Recomputed], repeat: int) -> RenderableType:
    """What computing stored results again gave: those that differ one by one, then all of them in a sentence."""
    told = {
        "same": "the same to the last bit",
        "noise": "different by noise",
        "changed": "changed",
        "unsteady": "not the same each time",
        "failed": "failed",
    }
    table = table_of("calculation", "verdict", "largest difference", title="Stored results, computed again", left=2)
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


def contents_table(parts: Sequence[Part]) -> Table:
    """What a store has, by model chemistry and order."""
    table = table_of("label", "n-body", "results", "failed", "time", "first", "last")
    for column in table.columns[1:]:
        column.no_wrap = True
    for part in parts:
        times = (f"{part.wall_time:.2f} s", _date(part.first), _date(part.last))
        table.add_row(Text(part.mc), str(part.nbody), str(part.results), str(part.failures), *times)
    return table


def fragments_table(rows: Iterable[Kept]) -> Table:
    """A line for each row of a store."""
    table = table_of("fragment calculation", "key", "result", "time", "energy / E_h", left=3)
    for column in table.columns[1:]:
        column.no_wrap = True
    for row in rows:
        found = row.result
        if found is None:
            table.add_row(Text(row.task.label), row.key[:SHORT_KEY], Text("damaged", style="red"), "", "")
            continue
        energy = found.values.get("energy")
        told = "done" if found.error is None else found.error.error_type
        numbers = (f"{found.wall_time:.2f} s", "" if energy is None else f"{energy:.10f}")
        table.add_row(Text(row.task.label), row.key[:SHORT_KEY], Text(told), *numbers)
    return table


def lines_of(row: Kept, found: TaskResult) -> Iterator[str]:
    """Everything about a row of a store, a line or more for each thing; arrays a row a line."""
    yield from (f"label      {row.task.label}", f"key        {row.key}", f"n-body     {row.task.nbody}")
    yield f"result     {'done' if found.error is None else found.error.error_type}"
    yield f"step       {found.step}"
    yield from (f"started    {_moment(found.started)}", f"ended      {_moment(found.ended)}")
    yield from (f"wall time  {found.wall_time:.6f} s", f"cpu time   {found.cpu_time:.6f} s")
    yield f"worker     {printable(found.worker) or '-'}"
    yield f"body       {'-' if found.body is None else size_of(len(found.body)) + '; --body prints it'}"
    yield from (f"note       {printable(note)}" for note in found.notes)
    for name, value in found.values.items():
        array = np.asarray(value)
        unit = _UNITS.get(name) or _UNITS_OF_RANK[min(array.ndim, 2)]
        if array.ndim == 0:
            yield f"{name:<10} {float(value)!r} {unit}"
        else:
            yield f"{name} / {unit}"
            yield from (" ".join(f"{x:19.12f}" for x in numbers) for numbers in np.atleast_2d(array))
    if found.error is not None:
        yield from ("", "error message", printable(found.error.error_message).rstrip("\n"))
    if found.output:
        yield from ("", "output", printable(found.output).rstrip("\n"))


def size_of(count: int) -> str:
    """A number of bytes for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="milliseconds")
