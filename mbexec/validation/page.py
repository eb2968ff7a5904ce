"""What people see of a validation: tables as text, and a page of Markdown with plots."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mbexec.core.resources import granted_cores
from mbexec.validation.findings import Outcome, Tried, Validation
from mbexec.validation.plots import cost_plot, speed_plot
from mbexec.validation.sheets import Sheet, bulleted, machine, markdown, with_plots, wrong
from mbexec.validation.systems import Check

__all__ = ["files", "notes", "sheets", "verdict"]

_ABLE = {
    "isolates_processes": "processes of its own",
    "can_kill": "kills what takes too long",
    "survives_worker_death": "survives dead workers",
}
_CLOSE = 0.9  # of the fastest one's speed: nothing to choose between
_BUSY = 0.5  # of the cores
_MORE = 1.15  # times the number of workers: faster than that is no executor
_HOW = """\
Each system ran on serial first, then on every other executor, in one process. Before each timed run its monomers ran
alone: `start` is what that took, with what it costs to start workers and load the program there. Runs that are over in
half a second were repeated, at most five times, and the fastest counts.

- `wall` is from the first submission to the merged result; `per second` are fragment calculations in that time.
- `times serial` is serial's wall time divided by this one.
- `beyond` is the time of all workers that was not spent inside programs, for each fragment: handing out, adding up, and
  waiting for the last one.
- `agreement`: every number of the result and of each fragment, compared with serial's. Where bits differ, serial runs
  twice more, and the difference may be ten times what those runs differ by.
"""


def sheets(found: Validation) -> list[Sheet]:
    """The tables, from what took part to what to choose."""
    return [_executors(found), _programs(found), _runs(found), _checks(found), _fastest(found)]


def _executors(found: Validation) -> Sheet:
    rows = [
        (each.name, f"{each.distribution} {each.version}", ", ".join(_ABLE[name] for name in each.says) or "-")
        for each in found.executors
    ]
    return Sheet("Executors", ("executor", "from", "declares"), (tuple(rows),), left=3)


def _programs(found: Validation) -> Sheet:
    rows = []
    for outcome in found.outcomes:
        system, report = outcome.system, outcome.tried[0].report
        computed = f"{system.driver}, {', '.join(system.bsse)}"
        count = f"{report.ntasks:,}" if report else "-"
        rows.append((system.name, outcome.version, system.model, system.cluster, computed, count))
    for system in found.missing:
        rows.append((system.name, "not installed", system.model, "-", "-", "-"))
    columns = ("program", "version", "method", "cluster", "computed", "fragments")
    return Sheet("Programs", columns, (tuple(rows),), left=5)


def _runs(found: Validation) -> Sheet:
    columns = ("program", "executor", "agreement", "start / s", "wall / s", "per second", "times serial", "beyond / ms")
    return Sheet("Runs", columns, tuple(tuple(_of_program(outcome)) for outcome in found.outcomes), left=3)


def _of_program(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """A row for each executor; the first ones say which program it is, and of how many fragments."""
    headings = [outcome.system.name]
    if report := outcome.tried[0].report:
        headings.append(f"{report.ntasks:,} fragments")
    for place, tried in enumerate(outcome.tried):
        wall = tried.report.wall_time if tried.report else math.nan
        numbers = [f"{tried.start:.2f}", f"{wall:.2f}", f"{tried.rate:,.{'1' if tried.rate < 100 else '0'}f}"]
        numbers += [f"{outcome.speed(tried):.2f}", f"{1e3 * tried.beyond:.2f}"]
        heading = headings[place] if place < len(headings) else ""
        yield (heading, tried.executor, _agreement(tried), *(_known(number) for number in numbers))


def _known(number: str) -> str:
    return "-" if number == "nan" else number


def _agreement(tried: Tried) -> str:
    if tried.refused:
        return "refused"
    if tried.problem:
        return "failed" if math.isnan(tried.difference) else "differs"
    return f"within {tried.difference:.0e}" if tried.difference else "same bits"


def _checks(found: Validation) -> Sheet:
    alone = [check for outcome in found.outcomes for check in outcome.checks]
    groups = [tuple(map(_check, checks)) for checks in (alone, found.checks) if checks]
    columns = ("program", "compared with", "difference", "allowed")
    return Sheet("What is known otherwise", columns, tuple(groups), left=2)


def _check(check: Check) -> tuple[str, ...]:
    difference = f"{check.difference:.0e}" if check.difference else "0"
    return check.programs, check.what, difference, f"{check.tolerance:.0e}"


def _fastest(found: Validation) -> Sheet:
    rows = []
    for outcome in found.outcomes:
        speeds = {tried.executor: outcome.speed(tried) for tried in outcome.tried if not tried.problem}
        ranked = sorted((name for name in speeds if speeds[name] > 0), key=lambda name: -speeds[name])
        if ranked:
            best = speeds[ranked[0]]
            close = [name for name in ranked[1:] if speeds[name] > _CLOSE * best]
            rows.append((outcome.system.name, ranked[0], ", ".join(close) or "-", f"{best:.2f}"))
    return Sheet("Fastest here", ("program", "executor", "as good", "times serial"), (tuple(rows),), left=3)


def notes(found: Validation) -> list[str]:
    """What the tables have no room for: programs to install, refusals, noise and load."""
    told = list(found.missing.values())
    cores = granted_cores(os.environ).amount
    if found.load > _BUSY * cores:
        told.append(
            f"The load average was {found.load:.1f} on {cores:.0f} cores before the first run: times mean little."
        )
    for outcome in found.outcomes:
        for tried in outcome.tried:
            where = f"{outcome.system.name} on {tried.executor}"
            speed, workers = outcome.speed(tried), tried.report.workers if tried.report else 1
            if speed > _MORE * workers:
                count = f"{speed:.1f} times as fast as serial with {workers} workers"
                told.append(f"{where} is {count}: other work disturbed the times.")
            if tried.refused:
                told.append(f"{where} is refused: {tried.refused}")
            elif tried.spread is not None and not tried.problem:
                told.append(f"{where} differs by {tried.difference:.1e}, repeated serial runs by {tried.spread:.1e}.")
    return told


def verdict(found: Validation) -> str:
    """All in a sentence."""
    if found.problems:
        return wrong(found.problems)
    runs = sum(tried.report is not None for outcome in found.outcomes for tried in outcome.tried)
    checks = len(found.checks) + sum(len(outcome.checks) for outcome in found.outcomes)
    counts = {"program": len(found.outcomes), "executor": len(found.executors), "run": runs, "check": checks}
    programs, executors, *rest = (f"{number} {noun}{'s' * (number != 1)}" for noun, number in counts.items())
    return f"Everything agrees: {', '.join([f'{programs} on {executors}', *rest])}."


def files(found: Validation, path: Path) -> dict[Path, str]:
    """The page and its plots: what to write where.

    Parameters
    ----------
    found
        By a validation.
    path
        Of the page. The plots go beside it, named after it.
    """
    plots = {"speed": speed_plot(found), "cost": cost_plot(found)}
    return with_plots(path, plots, partial(_page, found))


def _page(found: Validation, speed: str, cost: str) -> str:
    executors, programs, runs, checks, fastest = map(markdown, sheets(found))
    parts = ["# Every executor, compared", _machine(found), f"**{verdict(found)}**"]
    parts += bulleted(found.problems, notes(found))
    parts += ["## Fastest here", fastest, f"![How many times as fast as serial each executor is]({speed})"]
    parts += ["## Runs", runs, f"![What each executor costs beyond the program]({cost})", _HOW.strip()]
    parts += ["## What is known otherwise", _KNOWN.strip(), checks]
    parts += ["## Programs", programs, "## Executors", executors]
    return "\n\n".join(parts) + "\n"


_KNOWN = """\
What serial gave, compared with what needs no expansion. Without counterpoise correction, an expansion to all orders is
the cluster itself, which each program computed in one piece. The model potential has nothing but pairs and triples, so
an expansion through four bodies is the cluster as well, and the fourth adds nothing. Programs that have a method in
common must agree about it. Differences are in E_h, those of gradients in E_h/a0.
"""


def _machine(found: Validation) -> str:
    workers = max((tried.report.workers for o in found.outcomes for tried in o.tried if tried.report), default=1)
    return f"{machine()}, at most {workers} at work; {time.strftime('%Y-%m-%d')}. Written by `mbexec validate`."
