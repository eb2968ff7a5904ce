"""What people see of a bench: a table as text, notes, a page of Markdown with plots, and JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mbexec.bench.advice import advice, recommended
from mbexec.bench.findings import Bench, Case
from mbexec.bench.plots import speed_plot, time_plot
from mbexec.validation.sheets import Sheet, bulleted, machine, markdown, with_plots, wrong

__all__ = ["as_dict", "files", "line", "notes", "sheets", "verdict"]

_TIMES = ("executor", "agreement", "workers", "wall / s", "times serial", "efficiency", "start / s")
_COSTS = (
    "executor", "workers", "contention", "beyond / ms", "idle / s", "parent / MiB", "worker / MiB", "moved / MiB",
)  # fmt: skip
_MIB = 2**20
_UNSTEADY = 1.25  # the slowest run against the fastest
_MORE = 1.15  # times the number of workers: faster than that is no executor
_HOW = """\
Each measurement ran in an interpreter of its own, without a store; repeats were interleaved, and the fastest run
counts.

- `wall` is from the first submission to the merged result, with workers that have run something before.
- `times serial` is serial's wall time divided by this one's; `efficiency` is that per worker.
- `contention` is how many times longer the fragments took than they would have alone.
- `beyond` is the time of all workers that was not spent inside programs, for each fragment: handing out, adding up, and
  waiting for the last one; `idle` is the part of it between the first fragment's start and the last one's end, of all
  fragments together.
- `start` is what the first run in a fresh interpreter takes beyond a second one: to start that interpreter, to read the
  job, to start workers, to load the program there.
- `parent` is the most memory that mbexec's own process has held, `worker` the most of any worker's process or of a
  program that it started; where fragments run in mbexec's process, that is one and the same.
- `moved` is what went to worker processes and came back.
- `agreement`: every number of the result and of each fragment, compared with serial's.
"""
_SAMPLED = """\
- `whole job` is predicted from the sample: what fragments of each kind took on this executor, and what it cost beyond
  that for each fragment.
"""


def sheets(found: Bench) -> list[Sheet]:
    """The tables, each with a row for each executor and number of workers: how fast it is, and what that takes."""
    times = _TIMES if found.sample is None else (*_TIMES, "whole job / s")
    title = f"{found.job}: {_ran(found)}, {found.program}"
    return [
        Sheet(title, times, _grouped([(case, _times(found, case)) for case in found.cases]), left=2),
        Sheet("What that takes", _COSTS, _grouped([(case, _costs(case)) for case in found.cases])),
    ]


def _ran(found: Bench) -> str:
    if found.sample is None:
        return f"{found.ntasks:,} fragment calculations"
    return f"a sample of {len(found.sample.places):,} of {found.ntasks:,} fragment calculations"


def _grouped(rows: Sequence[tuple[Case, tuple[str, ...]]]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Those of an executor together, with a dash for each number that is not there."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for case, row in rows:
        groups.setdefault(case.executor, []).append(tuple("-" if "nan" in cell else cell for cell in row))
    return tuple(tuple((executor, *row) for row in group) for executor, group in groups.items())


def _times(found: Bench, case: Case) -> tuple[str, ...]:
    whole = () if found.sample is None else (_number(found.expected(case)),)
    speed = (f"{found.speedup(case):.2f}", f"{100 * found.efficiency(case):.0f} %")
    return _agreement(case), str(case.workers), _number(case.wall), *speed, f"{case.start:.2f}", *whole


def _costs(case: Case) -> tuple[str, ...]:
    moved = case.best.report.bytes_moved if case.best else None
    return (
        str(case.workers),
        f"{case.of_report('contention'):.2f}",
        _number(1e3 * case.beyond),
        _number(case.of_report("idle")),
        f"{case.of_report('memory') / _MIB:.0f}",
        f"{case.of_report('worker_memory') / _MIB:.0f}",
        f"{sum(moved) / _MIB:.2g}" if moved else "nan",
    )


def _number(value: float) -> str:
    """With three digits that count."""
    return f"{value:.{max(0, min(3, 2 - math.floor(math.log10(value))))}f}" if value > 0 else f"{value:.0f}"


def _agreement(case: Case) -> str:
    if case.refused:
        return "does not run"
    if not case.runs:
        return "failed" if case.problem else "-"
    if case.problem:
        return "differs" if case.differing[0] else "failed"
    if math.isnan(case.difference):
        return "-"
    return f"within {case.difference:.0e}" if case.differing[0] else "same bits"


def line(found: Bench, case: Case) -> str:
    """What has just been measured."""
    if case.refused or case.problem:
        return f"{case.executor:12} {case.workers:3} {_agreement(case)}"
    walls = f"{case.runs[-1].report.wall_time:10.3f} s, start {case.start:.2f} s"
    best = "at best " if len(case.runs) > 1 else ""
    speed = f", {best}{found.speedup(case):.2f} times serial" if case is not found.serial else ""
    return f"{case.executor:12} {case.workers:3} {walls}{speed}"


def notes(found: Bench) -> list[str]:
    """What the table has no room for: the sample, refusals, noise and load."""
    told = _of_sample(found)
    if found.busy:
        load = f"{found.load:.1f} on {found.cores:.0f} cores"
        told.append(f"The load average was {load} before the first run: times mean little.")
    if found.broken_off:
        told.append("It was interrupted: some runs are missing.")
    worst = max(found.cases, key=lambda case: case.slowest / case.wall if case.runs else 0.0)
    if worst.slowest > _UNSTEADY * worst.wall:
        took = f"from {_number(worst.wall)} to {_number(worst.slowest)} s"
        told.append(f"Runs of {worst.name} took {took}: other work disturbed them.")
    for case in found.cases:
        if case.refused and case.refused not in " ".join(told):
            told.append(f"{case.executor} does not run this job: {case.refused}")
        elif case.differing[0] and not case.problem:
            told.append(
                f"{case.name} differs from serial by {case.difference:.1e}, repeated serial runs by {found.spread:.1e}."
            )
        if found.speedup(case) > _MORE * case.workers:
            told.append(
                f"{case.name} is {found.speedup(case):.1f} times as fast as serial: other work disturbed the times."
            )
    return told


def _of_sample(found: Bench) -> list[str]:
    sample = found.sample
    if sample is None:
        return []
    kinds = len(sample.strata.mc) - len(sample.left_out)
    part = f"{len(sample.places):,} of {found.ntasks:,} fragments, of each of {kinds} groups of about the same expected"
    told = [f"The sample has {part} cost as large a part as of all, but one at least; --sample all runs all."]
    if sample.left_out:
        number = int(sample.strata.counts[list(sample.left_out)].sum())
        told.append(
            f"{number:,} of the largest fragments are not in it, since each takes too long; "
            "their times follow from their expected cost."
        )
    return told


def verdict(found: Bench) -> str:
    """Whether results agree, in a sentence."""
    if found.problems:
        return wrong(found.problems)
    ran = [case for case in found.cases if case.runs]
    if len(ran) < 2:
        return "Nothing ran beside serial." if ran else "Nothing ran to its end."
    same = not any(case.differing[0] for case in ran)
    return f"All {len(ran)} results {'are the same to the last bit' if same else 'agree as well as serial repeats'}."


def as_dict(found: Bench) -> dict[str, Any]:
    """All of it as JSON has it; null where there is no number."""
    choice = recommended(found)
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "load": found.load,
        "job": found.job,
        "program": found.program,
        "ntasks": found.ntasks,
        "sample": None if found.sample is None else found.sample.places.tolist(),
        "broken_off": found.broken_off,
        "problems": found.problems,
        "recommended": None if choice is None else {"executor": choice.executor, "workers": choice.workers},
        "advice": advice(found),
        "cases": [_case(found, case) for case in found.cases],
    }


def _case(found: Bench, case: Case) -> dict[str, Any]:
    numbers = {
        "wall_time": case.wall,
        "speedup": found.speedup(case),
        "efficiency": found.efficiency(case),
        "beyond": case.beyond,
        "start": case.start,
        "expected": found.expected(case),
        "difference": case.difference,
    }
    return {
        "executor": case.executor,
        "workers": case.workers,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "differing": case.differing[0],
        "refused": case.refused,
        "problem": case.problem,
        "runs": [run.report.as_dict() for run in case.runs],
    }


def files(found: Bench, path: Path) -> dict[Path, str]:
    """The page and its plots: what to write where.

    Parameters
    ----------
    found
        By a bench.
    path
        Of the page. The plots go beside it, named after it.
    """
    plots = {"speed": speed_plot(found), "time": time_plot(found)}
    return with_plots(path, plots, partial(_page, found))


def _page(found: Bench, speed: str, spent: str) -> str:
    times, costs = sheets(found)
    made = f"{machine()}; {time.strftime('%Y-%m-%d')}. Written by `mbexec bench`."
    parts = [f"# {found.job} on each executor", made, f"**{advice(found)}** {verdict(found)}"]
    parts += bulleted(found.problems, notes(found))
    parts += [
        f"## Runs\n\n{_ran(found).capitalize()}: {found.program}.",
        markdown(times),
        f"![Wall time and speedup by workers]({speed})",
    ]
    parts += ["## What that takes", markdown(costs), f"![What workers spent their time on]({spent})"]
    parts += [(_HOW + (_SAMPLED if found.sample is not None else "")).strip()]
    return "\n\n".join(parts) + "\n"
