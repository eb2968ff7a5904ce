"""What pages of measurements have in common: tables of text, and what they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from mbexec.core.resources import granted_cores

__all__ = ["Sheet", "bulleted", "machine", "markdown", "with_plots", "wrong"]


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


def bulleted(*lists: Sequence[str]) -> list[str]:
    """Each of the lists that is not empty as Markdown has it."""
    return ["\n".join(f"- {line}" for line in lines) for lines in lists if lines]


def wrong(problems: Sequence[str]) -> str:
    """That there are some, in a sentence."""
    return f"{len(problems)} thing{'s are' if len(problems) > 1 else ' is'} wrong."


def with_plots(path: Path, plots: Mapping[str, str], page: Callable[..., str]) -> dict[Path, str]:
    """A page and its plots: what to write where.

    Parameters
    ----------
    path
        Of the page. The plots go beside it, named after it.
    plots
        As SVG, by what they show.
    page
        Makes the page, given what it is to call each plot.
    """
    drawn = {path.with_name(f"{path.stem}-{what}.svg"): plot for what, plot in plots.items()}
    return {path: page(*(quote(plot.name) for plot in drawn)), **drawn}


def machine() -> str:
    """Versions of mbexec and of Python, the system and its cores, in words."""
    cores = granted_cores(os.environ)
    system = f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    return f"mbexec {version('mbexec')}, {system}, {int(cores.amount)} cores ({cores.source})"
