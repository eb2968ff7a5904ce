"""Plots of a bench, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbexec.bench.findings import Bench, Case
from mbexec.validation.plots import COLOURS, MARKS, STEADY, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["speed_figure", "speed_plot", "time_figure", "time_plot"]

_PARTS = ("programs, alone", "programs, waiting", "idle", "start and end")
_SHADES = ("#0072b2", "#d55e00", "#bbbbbb", "#e69f00")


def speed_plot(found: Bench) -> str:
    """Wall time and speedup by number of workers; as SVG."""
    return as_svg(speed_figure(found))


def time_plot(found: Bench) -> str:
    """What the workers spent their time on; as SVG."""
    return as_svg(time_figure(found))


def speed_figure(found: Bench) -> Figure:
    """See :func:`speed_plot`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STEADY):
        figure = Figure(figsize=(9.5, 3.9), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2)
        for place, (executor, cases) in enumerate(_by_executor(found).items()):
            style = {"marker": MARKS[place % len(MARKS)], "color": COLOURS[place % len(COLOURS)], "markersize": 7}
            workers = [case.workers for case in cases]
            left.plot(workers, [found.expected(case) for case in cases], label=executor, **style)
            right.plot(workers, [found.speedup(case) for case in cases], label=executor, **style)
        _draw_limits(right, found)
    ticks = sorted({case.workers for case in found.cases})
    for axes in (left, right):
        axes.set_xticks(ticks)
        axes.set_xlim(0, ticks[-1] + 0.5)
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.set_xlabel("workers")
        _plain(axes)
    left.set_ylabel("wall time / s" if found.sample is None else "wall time of the whole job, predicted / s")
    right.set_ylabel("times as fast as serial")
    right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _by_executor(found: Bench) -> dict[str, list[Case]]:
    """Cases that ran, by number of workers."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(found.cases, key=lambda case: case.workers):
        if case.runs:
            groups.setdefault(case.executor, []).append(case)
    return {name: groups[name] for name in dict.fromkeys(case.executor for case in found.cases) if name in groups}


def _draw_limits(axes: Axes, found: Bench) -> None:
    """As many times as there are workers; and what the longest fragment leaves of that, where it leaves less."""
    most = max(case.workers for case in found.cases)
    axes.plot([0, most], [0, most], color="0.6", linewidth=1, linestyle="--", label="ideal", zorder=1)
    alone, path = (found.serial.of_report(name) for name in ("serial_time", "critical_path"))
    if found.sample is None and alone < most * path:
        label = "bound by the\nlongest fragment"
        axes.axhline(alone / path, color="0.3", linewidth=1, linestyle=":", label=label, zorder=1)


def time_figure(found: Bench) -> Figure:
    """See :func:`time_plot`."""
    import matplotlib
    from matplotlib.figure import Figure

    cases = [case for case in found.cases if case.runs]
    with matplotlib.rc_context(STEADY):
        figure = Figure(figsize=(9.5, 1.3 + 0.34 * max(1, len(cases))), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        left = [0.0] * len(cases)
        for part, shade, widths in zip(_PARTS, _SHADES, zip(*map(_spent, cases), strict=True), strict=False):
            axes.barh(range(len(cases)), widths, left=left, color=shade, label=part, height=0.7)
            left = [begin + width for begin, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(cases)), [f"{case.executor}, {case.workers}" for case in cases])
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.set_xlabel("time of all workers / s")
    _plain(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    if cases:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _spent(case: Case) -> tuple[float, ...]:
    """Parts of the time of all workers, s: see ``_PARTS``."""
    if case.best is None:
        return (0.0,) * len(_PARTS)
    report = case.best.report
    alone = report.fragment_time if report.serial_time is None else report.serial_time
    idle = max(0.0, report.idle or 0.0)
    rest = report.workers * report.wall_time - report.fragment_time - idle
    return alone, report.fragment_time - alone, idle, max(0.0, rest)


def _plain(axes: Axes) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
