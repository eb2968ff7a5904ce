"""What the command line shows: results, plans, settings, plugins and stores as tables for people."""

from mbexec.tables.layout import counted, printable, sheet
from mbexec.tables.plans import amplification_table, plan_table, plugins_table, settings_table
from mbexec.tables.results import failures, results, summary
from mbexec.tables.stores import (
    SHORT_KEY,
    contents_table,
    fragments_table,
    lines_of,
    recomputed_table,
    size_of,
    status_table,
)

__all__ = [
    "SHORT_KEY",
    "amplification_table",
    "contents_table",
    "counted",
    "failures",
    "fragments_table",
    "lines_of",
    "plan_table",
    "plugins_table",
    "printable",
    "recomputed_table",
    "results",
    "settings_table",
    "sheet",
    "size_of",
    "status_table",
    "summary",
]
