"""Plots of a validation, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

from mbexec.validation.findings import Outcome, Tried, Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "MARKS",
    "STEADY",
    "as_svg",
    "cost_figure",
    "cost_plot",
    "speed_figure",
    "speed_plot",
]

# Told apart by shape and by colour; these colours also by people who see few of them.
MARKS = "osD^vP*X"
COLOURS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STEADY: Any = {"svg.hashsalt": "mbexec", "font.size": 10}


def speed_plot(found: Validation) -> str:
    """How many times as fast as serial each executor is, for each program; as SVG."""
    return as_svg(speed_figure(found))


def cost_plot(found: Validation) -> str:
    """The time of workers that each fragment takes beyond its program; as SVG."""
    return as_svg(cost_figure(found))


def speed_figure(found: Validation) -> Figure:
    """See :func:`speed_plot`."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _dots(found, lambda outcome, tried: outcome.speed(tried))
    workers = max((tried.report.workers for o in found.outcomes for tried in o.tried if tried.report), default=1)
    axes.axvline(workers, color="0.5", linewidth=1, linestyle="--")
    named = f"{workers} worker{'s' * (workers > 1)}"
    axes.text(workers, 1.01, named, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axes.set_xlabel("times as fast as serial")
    return figure


def cost_figure(found: Validation) -> Figure:
    """See :func:`cost_plot`."""
    figure, axes = _dots(found, lambda _, tried: 1e3 * tried.beyond)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("workers' time beyond the program, ms per fragment")
    return figure


def _dots(found: Validation, value: Callable[[Outcome, Tried], float]) -> tuple[Figure, Axes]:
    """A row for each program and a mark for each executor."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STEADY):
        figure = Figure(figsize=(7.5, 1.4 + 0.42 * len(found.outcomes)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for place, executor in enumerate(found.executors):
            points = _points(found, executor.name, value)
            shift = 0.12 * (place - (len(found.executors) - 1) / 2)
            axes.plot(
                [x for x, _ in points],
                [row + shift for _, row in points],
                linestyle="none",
                marker=MARKS[place % len(MARKS)],
                color=COLOURS[place % len(COLOURS)],
                markersize=7,
                label=executor.name,
            )
    axes.set_yticks(range(len(found.outcomes)), [outcome.system.name for outcome in found.outcomes])
    axes.set_ylim(len(found.outcomes) - 0.5, -0.5)
    axes.grid(color="0.9")
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure, axes


def _points(found: Validation, executor: str, value: Callable[[Outcome, Tried], float]) -> list[tuple[float, int]]:
    points = []
    for row, outcome in enumerate(found.outcomes):
        for tried in outcome.tried:
            if tried.executor == executor and not math.isnan(x := value(outcome, tried)):
                points.append((x, row))
    return points


def as_svg(figure: Any) -> str:
    """The same text each time."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context(STEADY):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
