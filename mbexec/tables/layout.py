"""What all tables have in common: how they look, and counted nouns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["counted", "printable", "sheet", "table_of"]


def table_of(*columns: str, title: str | None = None, left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the rest numbers. Where it is too wide, no digit is lost."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return table


def sheet(title: str, columns: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], left: int) -> Table:
    """Rows of text in groups; the first `left` columns are text, the rest numbers. Headings are as narrow as can be."""
    table = table_of(*(column.replace(" ", "\n", 1) for column in columns), title=title, left=left)
    table.pad_edge = table.show_edge = False
    for rows in groups:
        for row in rows:
            table.add_row(*map(Text, row))
        table.add_section()
    return table


def counted(number: int, noun: str) -> str:
    """A number of things: "1 result", "2 results"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def printable(text: str) -> str:
    """What programs said, without what makes a terminal do things."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
