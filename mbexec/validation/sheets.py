"""What pages of measurements have in common: tables of text, and what they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

from attrs import frozen

from mbexec.core.resources import granted_cores

__all__ = ["Sheet", "machine", "markdown"]


@frozen
class Sheet:
    """A table of text.

    Attributes
    ----------
    title
        In a few words.
    columns
        Headings.
    groups
        Rows that belong together.
    left
        How many of the columns are text; the others are numbers.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]
    left: int = 1


def markdown(sheet: Sheet) -> str:
    """The table as Markdown has it."""
    rules = ["---"] * sheet.left + ["--:"] * (len(sheet.columns) - sheet.left)
    rows = [row for group in sheet.groups for row in group]
    return "\n".join(f"| {' | '.join(_escaped(row))} |" for row in [sheet.columns, rules, *rows])


def _escaped(row: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in row]


def machine() -> str:
    """Versions of mbexec and of Python, the system and its cores, in words."""
    cores = granted_cores(os.environ)
    system = f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    return f"mbexec {version('mbexec')}, {system}, {int(cores.amount)} cores ({cores.source})"
