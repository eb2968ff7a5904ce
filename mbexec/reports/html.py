"""Pieces of a page: everything that comes from a record is text in it, whatever it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mbexec.tables.layout import printable

__all__ = ["definitions", "details", "paragraph", "section", "table", "text", "tiles"]


def text(words: object) -> str:
    """Words as HTML shows them, without what is neither seen nor read."""
    return escape(printable(str(words)))


def paragraph(words: str) -> str:
    """A paragraph of text."""
    return f"<p>{text(words)}</p>"


def section(name: str, title: str, parts: Iterable[str]) -> str:
    """A part of the page, with an address in it."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{text(title)}</h2>\n{body}\n</section>'


def table(
    name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1, more: str = ""
) -> str:
    """A table in a box of its own, which scrolls; nothing if there are no rows.

    Parameters
    ----------
    name
        Its address in the page.
    caption
        What it shows.
    columns
        Headings.
    rows
        What stands in them; None is shown as a dash.
    left
        How many columns are text; the others are numbers.
    more
        What to say of rows that were left out.
    """
    body = "\n".join(f"<tr>{''.join(_cell(cell, place < left) for place, cell in enumerate(row))}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f'<th scope="col"{_kind(place < left)}>{text(column)}</th>' for place, column in enumerate(columns))
    foot = f'<p class="more">{text(more)}</p>' if more else ""
    return (
        f'<div class="table" tabindex="0"><table id="{name}"><caption>{text(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{foot}"
    )


def _cell(cell: object, is_text: bool) -> str:
    return f"<td{_kind(is_text)}>{'-' if cell is None else text(cell)}</td>"


def _kind(is_text: bool) -> str:
    return "" if is_text else ' class="number"'


def definitions(entries: Iterable[tuple[str, object]]) -> str:
    """Names and what they stand for; those that stand for None or nothing are left out."""
    told = [(name, value) for name, value in entries if value not in (None, "")]
    return f"<dl>{''.join(f'<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>' for name, value in told)}</dl>"


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Names, figures, and what the figures are made of."""
    told = (
        f"<div><dt>{text(name)}</dt><dd><b>{text(figure)}</b> <span>{text(words)}</span></dd></div>"
        for name, figure, words in entries
    )
    return f'<dl class="tiles">{"".join(told)}</dl>'


def details(title: str, body: str) -> str:
    """What is shown when asked for."""
    return f"<details><summary>{text(title)}</summary>\n{body}\n</details>"
