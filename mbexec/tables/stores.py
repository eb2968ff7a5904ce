"""What stores hold as tables, beside a job and alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbexec.core import messages
from mbexec.tables.layout import table_of

if TYPE_CHECKING:
    from mbexec.core.inspection import LevelStatus, Recomputed

__all__ = ["recomputed_table", "status_table"]


def status_table(levels: Sequence[LevelStatus]) -> Table:
    """How far each level of a job is."""
    table = table_of("n-body", "calculations", "done", "failed", "to do", title="What the store has", left=0)
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
