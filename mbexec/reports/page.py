"""The page of a run: one file of HTML, which needs no script and asks for nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from mbexec.reports.html import text
from mbexec.reports.overview import configuration, failures, head, notes, provenance, summary
from mbexec.reports.record import Record
from mbexec.reports.sections import convergence, strongest, times
from mbexec.reports.svg import check_library

__all__ = ["page"]

_PARTS = {
    "summary": ("Summary", summary),
    "energies": ("Energies", convergence),
    "strongest": ("Pairs and triples", strongest),
    "times": ("Times", times),
    "failures": ("Failures", failures),
    "notes": ("Notes", notes),
    "configuration": ("Configuration", configuration),
    "provenance": ("Provenance", provenance),
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(record: Record) -> str:
    """What a run was, what came of it and what it cost, as HTML.

    Parameters
    ----------
    record
        By :func:`mbexec.reports.read_record`. What it says of a run that broke off is shown as far as it got.

    Raises
    ------
    ConfigError
        If what draws plots is not installed.
    """
    check_library("The page of a run", "choose another --format")
    names = _order(record)
    links = "\n".join(f'<a href="#{name}">{text(_PARTS[name][0])}</a>' for name in names)
    parts = "\n".join(_PARTS[name][1](record) for name in names)
    style = files("mbexec.reports").joinpath("page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Run {text(record.run_id)} - mbexec</title>
<style>
{style}</style>
</head>
<body>
<header>
{head(record)}
<nav aria-label="Parts of this page">
{links}
</nav>
</header>
<main>
{parts}
</main>
<footer>Written by <code>mbexec report</code> from the record of the run.</footer>
</body>
</html>
"""


def _order(record: Record) -> list[str]:
    """What went wrong comes first."""
    wrong = record.result is None or not record.result["success"]
    first = ["summary", "failures"] if wrong else ["summary"]
    return [*first, *(name for name in _PARTS if name not in first)]
