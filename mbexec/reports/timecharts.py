"""Charts of time: who ran what when, what each level cost, how long fragments took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbexec.reports.charts import WIDTH
from mbexec.reports.svg import MUTED, PAGE, TEXT, as_svg, figure_of, plain, series, without_frame

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["load_chart", "timeline_chart", "times_chart"]

_SINGLE_BARS = 2000  # more than these are an image
_COLUMNS = 1200  # of such an image
_LANES = 30  # with a label each
_STEPS = 5  # of the histogram, to a power of ten


def timeline_chart(fragments: Sequence[Mapping[str, Any]], workers: Sequence[str]) -> str:
    """What each worker did when: a lane for each, in the order given, a bar for each fragment."""
    first = min(fragment["started"] for fragment in fragments)
    span = max(fragment["ended"] for fragment in fragments) - first or 1e-6
    lane = {name: place for place, name in enumerate(workers)}
    orders = sorted({fragment["nbody"] for fragment in fragments})
    with figure_of(1.8 * WIDTH, 1.1 + min(0.34 * len(lane), 6.0)) as figure:
        axes = figure.add_subplot()
        tips: dict[str, list[str]] = {}
        if len(fragments) <= _SINGLE_BARS:
            for place, nbody in enumerate(orders):
                some = [fragment for fragment in fragments if fragment["nbody"] == nbody]
                tips |= _bars(axes, some, lane, first, span, place)
        else:
            _image(axes, fragments, lane, first, span, orders)
        axes.set_xlim(0, span)
        axes.set_ylim(len(lane) - 0.5, -0.5)
        every = -(-len(lane) // _LANES)
        axes.set_yticks(range(0, len(lane), every), [str(number) for number in range(1, len(lane) + 1, every)])
        axes.set_ylabel("worker")
        axes.set_xlabel("time since the first fragment began, s")
        without_frame(axes, grid="x")
        failed = any(fragment["error"] for fragment in fragments)
        _nbody_legend(axes, orders, [_failed(cross=len(fragments) > _SINGLE_BARS)] if failed else [])
        return as_svg(figure, "timeline", "What each worker did when", tips)


def _bars(
    axes: Axes, fragments: Sequence[Mapping[str, Any]], lane: Mapping[str, int], first: float, span: float, place: int
) -> dict[str, list[str]]:
    """One group for what succeeded, one for what failed; the words for each bar."""
    from matplotlib.collections import PolyCollection

    tips = {}
    for ending, failed in (("", False), ("-failed", True)):
        some = [fragment for fragment in fragments if (fragment["error"] is not None) == failed]
        if not some:
            continue
        gid = f"marks-nbody-{fragments[0]['nbody']}{ending}"
        starts = np.array([fragment["started"] - first for fragment in some])
        lengths = np.maximum([fragment["ended"] - fragment["started"] for fragment in some], 5e-4 * span)
        rows = np.array([lane[fragment["worker"]] for fragment in some])
        edge = [PAGE if length > 5e-3 * span else series(place) for length in lengths]
        style: Any = {"facecolors": series(place), "edgecolors": edge, "linewidths": 0.5}
        if failed:
            style = {"facecolors": PAGE, "edgecolors": series(place), "hatch": "/////", "linewidths": 1.2}
        half = 0.4
        boxes = [
            [(x, y - half), (x + width, y - half), (x + width, y + half), (x, y + half)]
            for x, width, y in zip(starts.tolist(), lengths.tolist(), rows.tolist(), strict=True)
        ]
        axes.add_collection(PolyCollection(boxes, gid=gid, zorder=3 if failed else 2, **style))
        tips[gid] = [_told(fragment, first) for fragment in some]
    return tips


def _told(fragment: Mapping[str, Any], first: float) -> str:
    ending = f", failed: {fragment['error']['error_type']}" if fragment["error"] else ""
    return f"{fragment['label']}: {fragment['wall_time']:.4g} s from {fragment['started'] - first:.4g} s{ending}"


def _image(
    axes: Axes,
    fragments: Sequence[Mapping[str, Any]],
    lane: Mapping[str, int],
    first: float,
    span: float,
    orders: Sequence[int],
) -> None:
    """How busy each worker was in each of many short intervals, in the colour of what kept it busiest."""
    from matplotlib.colors import to_rgb

    busy = np.zeros((len(orders), len(lane), _COLUMNS))
    for fragment in fragments:
        place, row = orders.index(fragment["nbody"]), lane[fragment["worker"]]
        _add(busy[place, row], *((fragment[name] - first) / span * _COLUMNS for name in ("started", "ended")))
    share = np.minimum(busy.sum(axis=0), 1.0)
    colours = np.array([to_rgb(series(place)) for place in range(len(orders))])[busy.argmax(axis=0)]
    seen = np.where(share > 0, 0.15 + 0.85 * share, 0.0)
    image = np.concatenate([colours, seen[..., None]], axis=-1)
    rows = np.repeat(image, 9, axis=0)
    rows[::9] = 0.0  # a gap between lanes
    axes.imshow(
        rows,
        extent=(0, span, len(lane) - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
        gid="marks-image",
        zorder=1.5,
    )
    failed = [fragment for fragment in fragments if fragment["error"]][:_SINGLE_BARS]
    axes.plot(
        [fragment["started"] - first for fragment in failed],
        [lane[fragment["worker"]] for fragment in failed],
        linestyle="none",
        marker="x",
        color=TEXT,
        markersize=5,
        gid="marks-failed",
    )


def _add(row: NDArray[np.float64], start: float, end: float) -> None:
    """Add an interval's share of each column that it touches."""
    left, right = max(math.floor(start), 0), min(math.ceil(end), len(row))
    columns = np.arange(left, right)
    row[left:right] += np.minimum(columns + 1, end) - np.maximum(columns, start)


def _failed(*, cross: bool) -> Artist:
    """How what failed is marked: hatched, or crossed out where bars are too short for that."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if cross:
        return Line2D([], [], linestyle="none", marker="x", color=TEXT, markersize=5, label="failed")
    return Patch(facecolor=PAGE, edgecolor=MUTED, hatch="/////", label="failed")


def _nbody_legend(axes: Axes, orders: Sequence[int], more: Sequence[Artist] = ()) -> None:
    from matplotlib.patches import Patch

    boxes = [*(Patch(color=series(place), label=_bodies(nbody)) for place, nbody in enumerate(orders)), *more]
    style: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "borderaxespad": 0.1}
    axes.legend(handles=boxes, ncols=len(boxes), handlelength=1.2, **style)


def _bodies(nbody: int) -> str:
    return f"{nbody} bod{'y' if nbody == 1 else 'ies'}"


def load_chart(levels: Sequence[Mapping[str, Any]]) -> str:
    """What each level cost in all, and its shortest, median and longest fragment."""
    some = [(place, level) for place, level in enumerate(levels) if level["executed"]]
    rows, names = range(len(some)), [_bodies(level["nbody"]) for _, level in some]
    with figure_of(WIDTH, max(2.9, 1.0 + 0.42 * len(some))) as figure:
        left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.08})
        for row, (place, level) in enumerate(some):
            left.barh(row, level["wall_time"], height=0.6, color=series(place), gid=f"marks-sum-{level['nbody']}")
            times = [level["shortest"], level["typical"], level["longest"]]
            right.plot(times[::2], [row, row], color=series(place), linewidth=3, solid_capstyle="butt")
            right.scatter(
                times, [row] * 3, s=[22, 40, 22], color=series(place), marker="d", gid=f"marks-range-{level['nbody']}"
            )
        left.set_yticks(rows, names)
        left.set_ylim(len(some) - 0.4, -0.6)
        left.set_xlabel("all fragments, s")
        right.set_xlabel("shortest, median, longest, s")
        right.set_xscale("log")
        plain(right.xaxis, 5)
        without_frame(left, grid="x")
        without_frame(right, grid="x")
        return as_svg(figure, "load", "Time of the fragments of each level: sums, and shortest, median and longest")


def times_chart(fragments: Sequence[Mapping[str, Any]]) -> str:
    """How many fragments took how long."""
    from matplotlib.ticker import MaxNLocator

    orders = sorted({fragment["nbody"] for fragment in fragments})
    edges = _bins(fragment["wall_time"] for fragment in fragments)
    with figure_of(WIDTH, 2.9) as figure:
        axes = figure.add_subplot()
        bottom = np.zeros(len(edges) - 1)
        tips = {}
        for place, nbody in enumerate(orders):
            walls = [max(f["wall_time"], edges[0]) for f in fragments if f["nbody"] == nbody]
            counts = np.histogram(walls, edges)[0]
            there = np.flatnonzero(counts)
            tips[f"marks-times-{nbody}"] = _stack(axes, edges, bottom, counts, there, place, nbody)
            bottom += counts
        axes.set_xscale("log")
        axes.set_xlim(edges[0] * 0.9, edges[-1])
        axes.set_ylim(0, 1.06 * bottom.max())
        plain(axes.xaxis)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("wall time of a fragment, s")
        axes.set_ylabel("fragments")
        without_frame(axes, grid="y")
        axes.tick_params(axis="x", which="both", pad=7)  # clear of the 0 in the corner
        _nbody_legend(axes, orders)
        return as_svg(figure, "times", "How many fragments took how long", tips)


def _bins(times: Any) -> NDArray[np.float64]:
    """Edges, five to a power of ten, in which all the given times lie."""
    found = [max(time, 1e-6) for time in times]
    least, most = math.floor(_STEPS * math.log10(min(found))), math.floor(_STEPS * math.log10(max(found))) + 1
    return 10.0 ** (np.arange(least, most + 1) / _STEPS)


def _stack(axes: Axes, edges: Any, bottom: Any, counts: Any, there: Any, place: int, nbody: int) -> list[str]:
    from matplotlib.collections import PolyCollection

    boxes = [
        [
            (edges[k], bottom[k]),
            (edges[k + 1], bottom[k]),
            (edges[k + 1], bottom[k] + counts[k]),
            (edges[k], bottom[k] + counts[k]),
        ]
        for k in there.tolist()
    ]
    style: Any = {"facecolors": series(place), "edgecolors": PAGE, "linewidths": 0.6}
    axes.add_collection(PolyCollection(boxes, gid=f"marks-times-{nbody}", **style))
    return [f"{counts[k]} of {_bodies(nbody)}: {edges[k]:.3g} to {edges[k + 1]:.3g} s" for k in there.tolist()]
