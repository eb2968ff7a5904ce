"""Tables that scripts print, as data; how their figures grow with the size of the cluster, and plots of that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["orders", "plot", "rows"]

FEWEST = 3  # sizes that say how something grows
SIDES = ("QCManyBody", "mbexec")
SIZES = (8, 16, 32, 64)
UNITS = {"ms": "time", "MB": "memory"}


def rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of the Markdown tables among some lines; numbers are numbers."""
    found: list[dict[str, Any]] = []
    header: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            header = []
        elif not header:
            header = _cells(line)
        elif not set(line) <= set("|-: "):
            found.append(dict(zip(header, map(_value, _cells(line)), strict=False)))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _value(text: str) -> float | str:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def series(scripts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Time and memory of each step, treatment and side by number of waters, of what is not too little to measure."""
    table = scripts.get("plan_merge", {}).get("rows", [])
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for row in table:
        waters, bsse, *other = str(row["waters"]).split()
        if other:  # of more bodies than the rest
            continue
        for side in SIDES:
            for unit in UNITS:
                value = row[f"{side} / {unit}"]
                if value > 0:
                    found.setdefault((row["step"], bsse, side, unit), []).append((float(waters), value))
    return [
        {"step": step, "bsse": bsse, "side": side, "what": UNITS[unit], "unit": unit, "points": sorted(points)}
        for (step, bsse, side, unit), points in found.items()
    ]


def orders(scripts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The exponent of a power of the number of waters, fitted to what was measured at three sizes and more."""
    return [{**line, "order": fitted(line["points"])[0]} for line in series(scripts) if len(line["points"]) >= FEWEST]


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Exponent and factor of the power that goes through some points, by least squares of the logarithms."""
    size, value = np.log(np.array(points)).T
    exponent, factor = np.polyfit(size, value, 1)
    return float(exponent), math.exp(factor)


def plot(scripts: Mapping[str, Any], folder: Path) -> None:
    """Time and memory against the number of waters, one SVG each, with the fitted powers; needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = series(scripts)
    treatments = list(dict.fromkeys(line["bsse"] for line in lines))
    steps = [step for step in dict.fromkeys(line["step"] for line in lines) if not step.startswith("all")]
    for unit, what in UNITS.items():
        figure = Figure(figsize=(4 * len(treatments), 5))
        axes = figure.subplots(1, len(treatments), sharey=True, squeeze=False)
        for axis, bsse in zip(axes[0], treatments, strict=True):
            for line in [line for line in lines if (line["unit"], line["bsse"]) == (unit, bsse)]:
                if line["step"] in steps:
                    _draw(axis, line, f"C{steps.index(line['step'])}")
            axis.set(title=bsse, xscale="log", yscale="log", xlabel="waters")
            axis.set_xticks(SIZES, [str(size) for size in SIZES])
            axis.minorticks_off()
            axis.legend(fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        axes[0][0].set_ylabel(f"{what} / {unit}")
        figure.tight_layout()
        with matplotlib.rc_context({"svg.hashsalt": "mbexec", "svg.fonttype": "none"}):  # the same bytes each time
            figure.savefig(folder / f"growth-{what}.svg", metadata={"Date": None})


def _draw(axis: Any, line: Mapping[str, Any], colour: str) -> None:
    size, value = np.array(line["points"]).T
    ours = line["side"] == "mbexec"
    name = f"{line['step']}, {line['side']}"
    if len(size) >= FEWEST:
        exponent, factor = fitted(line["points"])
        axis.plot(size, factor * size**exponent, color=colour, linewidth=0.8, linestyle="-" if ours else ":")
        name += f" (N^{exponent:.1f})"
    axis.plot(size, value, color=colour, marker="o" if ours else "x", linestyle="none", label=name)
