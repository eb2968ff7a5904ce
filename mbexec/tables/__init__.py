"""What the command line shows: results, plans, settings, plugins and stores as tables for people."""

from mbexec.tables.layout import sheet
from mbexec.tables.plans import amplification_table, plan_table, plugins_table, settings_table
from mbexec.tables.results import failures, results, summary
from mbexec.tables.stores import recomputed_table, status_table

__all__ = [
    "amplification_table",
    "failures",
    "plan_table",
    "plugins_table",
    "recomputed_table",
    "results",
    "settings_table",
    "sheet",
    "status_table",
    "summary",
]
