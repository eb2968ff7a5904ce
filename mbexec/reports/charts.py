"""Charts of energies: convergence with nbody, contributions of fragment sets by pair and by distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbexec.reports.facts import KJ, Sets
from mbexec.reports.svg import MUTED, PAGE, SERIES, as_svg, figure_of, plain, series, signed, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contributions_chart", "convergence_chart", "decay_chart", "pairs_chart"]

WIDTH = 6.2
_MARKS = "os^Dv"
_NAMES = {2: "pairs", 3: "triples"}
_SINGLE_MARKS = 2000  # more than these are an image
_SINGLE_CELLS = 40  # fragments; the cells of more are an image
_PIXELS = 300  # along such an image at most
_LOWERS, _RAISES, _FAR = SERIES[0], SERIES[1], "#80868b"

Energies = Mapping[str, Mapping[str, Mapping[int, float]]]


def convergence_chart(found: Energies) -> str:
    """The interaction energy through each order, a line for each BSSE treatment."""
    orders = _orders(found, "interaction")
    with figure_of(WIDTH, 3.1) as figure:
        axes = figure.add_subplot()
        for place, (bsse, kinds) in enumerate(found.items()):
            through = kinds["interaction"]
            axes.plot(
                [orders.index(nbody) for nbody in through],
                [KJ * value for value in through.values()],
                marker=_MARKS[place % len(_MARKS)],
                color=series(place),
                label=bsse,
                gid=f"marks-{bsse}",
            )
        _order_axis(axes, orders, "interaction energy through n bodies")
        axes.set_ylabel("kJ/mol")
        _legend(axes, len(found))
        return as_svg(figure, "convergence", "Interaction energy through each order, for each BSSE treatment")


def contributions_chart(found: Energies) -> str:
    """What each order adds: magnitudes, as they fall by powers of ten."""
    orders = _orders(found, "contribution")
    with figure_of(WIDTH, 3.1) as figure:
        axes = figure.add_subplot()
        for place, (bsse, kinds) in enumerate(found.items()):
            added = {nbody: value for nbody, value in kinds["contribution"].items() if value}
            x = np.array([orders.index(nbody) + 0.14 * (place - (len(found) - 1) / 2) for nbody in added])
            _signed_marks(axes, x, KJ * np.array(list(added.values())), place, bsse)
        _log_if_possible(axes)
        _order_axis(axes, orders, "contribution of n bodies: filled lowers the energy, hollow raises it")
        axes.set_ylabel("magnitude, kJ/mol")
        _legend(axes, len(found))
        return as_svg(figure, "contributions", "What each order adds to the energy, for each BSSE treatment")


def _orders(found: Energies, kind: str) -> list[int]:
    return sorted({nbody for kinds in found.values() for nbody in kinds[kind]})


def _order_axis(axes: Axes, orders: Sequence[int], label: str) -> None:
    axes.set_xticks(range(len(orders)), list(map(str, orders)))
    axes.set_xlim(-0.5, len(orders) - 0.5)
    axes.set_xlabel(label)
    without_frame(axes, grid="y")


def _legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=entries, frameon=False, borderaxespad=0.1)


def _signed_marks(
    axes: Axes, x: NDArray[np.float64], values: NDArray[np.float64], place: int, name: str, size: float = 26
) -> None:
    """Magnitudes as marks: filled for what lowers the energy, hollow for what raises it; too many as an image."""
    from matplotlib.lines import Line2D

    colour, many = series(place), len(values) > _SINGLE_MARKS
    hollow = values > 0 if not many else np.zeros(len(values), dtype=bool)
    axes.scatter(
        x,
        np.abs(values),
        s=size,
        marker=_MARKS[place % len(_MARKS)],
        facecolors=[PAGE if empty else colour for empty in hollow.tolist()],
        edgecolors=colour,
        linewidths=0 if many else 1.1,
        alpha=0.5 if many else None,
        gid=f"marks-{name}",
        rasterized=many,
    )
    style: Any = {"marker": _MARKS[place % len(_MARKS)], "color": colour, "linestyle": "none", "markersize": 5}
    axes.add_line(Line2D([], [], label=name, **style))


def _log_if_possible(axes: Axes) -> None:
    if axes.collections:
        axes.set_yscale("log")
        axes.margins(y=0.12)
        plain(axes.yaxis)


def decay_chart(by_nbody: Mapping[int, Sets], bsse: str) -> str:
    """How the contributions of pairs and triples fall off with distance."""
    tips = {}
    with figure_of(WIDTH, 4.6) as figure:
        axes = figure.add_subplot()
        for place, (nbody, found) in enumerate(by_nbody.items()):
            there = np.flatnonzero(found.values)
            size = 26 if len(there) <= 300 else 9 if len(there) <= _SINGLE_MARKS else 4
            _signed_marks(axes, found.apart[there], found.scaled[there], place, _NAMES[nbody], size)
            if len(there) <= _SINGLE_MARKS:
                tips[f"marks-{_NAMES[nbody]}"] = [_told(found, one) for one in there.tolist()]
        _log_if_possible(axes)
        axes.set_xlabel("distance between closest atoms, \N{ANGSTROM SIGN}; of triples the greatest of three")
        axes.set_ylabel("magnitude of contribution, kJ/mol")
        if len(tips) == len(by_nbody):  # an image has no room for this
            axes.set_title("filled lowers the energy, hollow raises it", loc="right", color=MUTED, fontsize=8.5)
        without_frame(axes)
        _legend(axes, len(by_nbody))
        return as_svg(figure, f"decay-{bsse}", f"Contributions of pairs and triples against distance, {bsse}", tips)


def _told(found: Sets, place: int) -> str:
    frag = ", ".join(map(str, found.sets[place].tolist()))
    return f"{frag}: {found.scaled[place]:.4f} kJ/mol at {found.apart[place]:.2f} \N{ANGSTROM SIGN}"


def pairs_chart(pairs: Sets, near: NDArray[np.float64], bsse: str) -> str:
    """The contribution of each pair below the diagonal, the distance of its closest atoms above it."""
    nfr = len(near)
    most = float(np.abs(pairs.scaled).max()) or 1.0
    least, farthest = _extent(near)
    far = (near - least) / (farthest - least)
    i, j = pairs.sets.T - 1
    share = pairs.scaled / most
    with figure_of(WIDTH, 4.6) as figure:
        axes, *keys = figure.subplots(1, 3, width_ratios=[30, 1, 1])
        if nfr <= _SINGLE_CELLS:
            tips = _cells(axes, i, j, share, far)
            words = [_told(pairs, place) for place in range(len(pairs))]
            told = {gid: [words[place] for place in places] for gid, places in tips.items()}
        else:
            _image(axes, i, j, share, far)
            told = {}
        axes.set_xlim(0.5, nfr + 0.5)
        axes.set_ylim(nfr + 0.5, 0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("fragment")
        axes.set_ylabel("fragment")
        if nfr <= 20:
            axes.set_xticks(range(1, nfr + 1))
            axes.set_yticks(range(1, nfr + 1))
        axes.tick_params(length=0)
        _key(keys[0], most, "contribution, kJ/mol")
        _distance_key(keys[1], least, farthest)
        return as_svg(
            figure,
            f"pairs-{bsse}",
            f"Contribution of each pair of fragments below the diagonal, distance above it, {bsse}",
            told,
        )


def _strength(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much colour: weak ones are still to be seen."""
    found: NDArray[np.float64] = np.sqrt(np.abs(share))
    return found


def _cells(axes: Axes, i: Any, j: Any, share: NDArray[np.float64], far: NDArray[np.float64]) -> dict[str, list[int]]:
    """A square for each pair; which pairs are in which group."""
    groups = {}
    for name, colour, chosen in (("lowers", _LOWERS, share < 0), ("raises", _RAISES, share >= 0)):
        if chosen.any():
            groups[f"marks-{name}"] = np.flatnonzero(chosen).tolist()
            _squares(axes, i[chosen], j[chosen], colour, _strength(share[chosen]), f"marks-{name}")
    a, b = np.triu_indices(len(far), 1)
    _squares(axes, b, a, _FAR, _closeness(far[a, b]), "marks-distances")
    return groups


def _squares(axes: Axes, x: Any, y: Any, colour: str, strength: NDArray[np.float64], gid: str) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    corners = np.array([(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)])
    squares = np.column_stack([x, y])[:, None] + corners
    faces = [to_rgba(colour, value) for value in strength.tolist()]
    axes.add_collection(PolyCollection(list(squares), facecolors=faces, edgecolors=PAGE, linewidths=0.6, gid=gid))


def _image(axes: Axes, i: Any, j: Any, share: NDArray[np.float64], far: NDArray[np.float64]) -> None:
    """The same as pixels; where there are too many, each is the strongest pair of its block, or the closest."""
    nfr = len(far)
    block = -(-nfr // _PIXELS)
    side = -(-nfr // block)
    strongest = np.zeros((side, side))
    order = np.argsort(np.abs(share))  # the last of those that share a pixel stays
    strongest[j[order] // block, i[order] // block] = share[order]
    image = _coloured(strongest)
    a, b = np.triu_indices(nfr, 1)
    closest = np.ones((side, side))
    np.minimum.at(closest, (a // block, b // block), far[a, b])
    above = np.triu(np.ones((side, side), dtype=bool), 1)
    image[above] = np.column_stack([_greys(above.sum()), _closeness(closest[above])])
    edges = (0.5, 0.5 + side * block, 0.5 + side * block, 0.5)
    axes.imshow(image, extent=edges, interpolation="nearest", gid="marks-image")


def _coloured(share: NDArray[np.float64]) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    lowers, raises = np.array(to_rgb(_LOWERS)), np.array(to_rgb(_RAISES))
    colours = np.where((share < 0)[..., None], lowers, raises)
    return np.concatenate([colours, _strength(share)[..., None]], axis=-1)


def _key(axes: Axes, most: float, label: str) -> None:
    """Which colour is which contribution."""
    shares = np.linspace(-1, 1, 101)
    ticks = np.array([-1, -0.25, 0, 0.25, 1])
    places = np.sign(ticks) * np.sqrt(np.abs(ticks))
    steps = np.sign(shares) * shares**2
    axes.imshow(_coloured(steps[:, None]), extent=(0, 1, -1, 1), origin="lower", aspect="auto", interpolation="nearest")
    axes.set_yticks(places, [signed(float(f"{tick * most:.2g}")) for tick in ticks])
    _beside(axes, label)


def _distance_key(axes: Axes, least: float, most: float) -> None:
    image = np.column_stack([_greys(100), _closeness(np.linspace(0, 1, 100))])[:, None]
    axes.imshow(image, extent=(0, 1, least, most), origin="lower", aspect="auto", interpolation="nearest")
    _beside(axes, "distance, \N{ANGSTROM SIGN}")


def _extent(near: NDArray[np.float64]) -> tuple[float, float]:
    """The least and the greatest distance of two fragments, which a scale needs to differ."""
    apart = near[np.triu_indices(len(near), 1)]
    return float(apart.min()), max(float(apart.max()), 1.001 * float(apart.min()))


def _closeness(far: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much grey: the closest most, the farthest still some."""
    return 1 - 0.85 * far


def _greys(count: int) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    return np.tile(to_rgb(_FAR), (count, 1))


def _beside(axes: Axes, label: str) -> None:
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.tick_params(length=0)
    axes.set_ylabel(label)
    axes.spines[:].set_linewidth(0.5)
