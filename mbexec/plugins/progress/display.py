"""What a terminal shows of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from mbexec.plugins.progress.state import Count, Running, Seen
from mbexec.plugins.progress.words import span

__all__ = ["LONGEST", "drawn"]

LONGEST = 5  # running fragments that are named
_WIDEST = 100
_ECHO = 4  # columns that a terminal needs for two ^C behind the last line, which would else go on to the next one
_OVERDUE = 2.0  # times as long as expected, from which on it is said


def drawn(seen: Seen, elapsed: float, workers: int, width: int, *, ended: bool) -> RenderableType:
    """A bar for each nbody and, if there are several, one for all; then times, and what runs."""
    width = min(width, _WIDEST) - _ECHO
    lines: list[RenderableType] = [_bars(seen, width), _times(seen, elapsed, workers, ended)]
    if seen.longest and not ended:
        lines.append(_running(seen.longest))
    return Constrain(Group(*lines), width)


def _bars(seen: Seen, width: int) -> Table:
    everything = seen.all
    shown = [("run", "ran"), ("reused", "reused")] * bool(everything.reused)
    shown += [("failed", "failed")] * bool(everything.failed) + [("left out", "left_out")] * bool(everything.left_out)
    plain = [Column(), Column("", ratio=1), Column("share", justify="right"), Column("done", justify="right")]
    table = Table(*plain, *(Column(title, justify="right") for title, _ in shown), box=None, expand=True, width=width)
    table.header_style, table.padding, table.pad_edge = "dim", (0, 2, 0, 0), False
    rows = [(f"{nbody}-body", seen.counts[nbody], share) for nbody, share in sorted(seen.outlook.shares.items())]
    if len(rows) > 1:
        rows.append(("all", everything, seen.outlook.share))
    for title, count, share in rows:
        numbers = [_number(attribute, getattr(count, attribute)) for _, attribute in shown]
        table.add_row(title, ProgressBar(1.0, share), _percent(count, share), f"{count.done}/{count.total}", *numbers)
    return table


def _number(attribute: str, number: int) -> Text:
    return Text(str(number), "bold red" if attribute == "failed" and number else "")


def _percent(count: Count, share: float) -> str:
    """Whole per cent; all is not said before it is so."""
    return "100%" if count.done == count.total else f"{min(99, int(100 * share))}%"


def _times(seen: Seen, elapsed: float, workers: int, ended: bool) -> Text:
    line = Text(f"{span(elapsed)} elapsed", no_wrap=True, overflow="ellipsis")
    left = seen.outlook.left
    about = "at most about" if seen.undecided else "about"
    if not ended:
        line.append(f", {about} {span(math.ceil(left))} left" if left is not None else ", time left not known yet")
        line.append(f"; {seen.running} running, {workers} worker{'s' * (workers != 1)}", "dim")
    return line


def _running(longest: tuple[Running, ...]) -> Text:
    line = Text("running  ", "dim", no_wrap=True, overflow="ellipsis")
    for text, overdue in _named(longest):
        line.append(text, "yellow" if overdue else "default")
    return line


def _named(longest: tuple[Running, ...]) -> Iterator[tuple[str, bool]]:
    for place, each in enumerate(longest):
        overdue = each.expected is not None and each.seconds > _OVERDUE * max(each.expected, 1.0)
        words = f"{each.label} {span(each.seconds)}"
        if overdue:
            words += f" (expected: {span(math.ceil(each.expected or 0))})"
        yield ", " * (place > 0) + words, overdue
