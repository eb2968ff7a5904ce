"""Figures as SVG that stands in a page: its colours are the page's, its text is text, its names are its own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from mbexec.core.errors import ConfigError
from mbexec.tables.layout import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "MUTED",
    "PAGE",
    "SERIES",
    "TEXT",
    "as_svg",
    "check_library",
    "figure_of",
    "plain",
    "series",
    "signed",
    "without_frame",
]

# Drawn as these, shown as what the page's style sheet says, which differs in light and in dark.
TEXT, MUTED, GRID, PAGE = "#010203", "#010204", "#010205", "#010206"
# The same in light and in dark, so that images can have them too: 3:1 against both, told apart by people who see few
# colours.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0529b", "#947c00")
_COLOURS = {TEXT: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)", PAGE: "var(--page)"} | {
    colour: f"var(--series-{place})" for place, colour in enumerate(SERIES, start=1)
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mbexec",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "text.parse_math": False,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "hatch.linewidth": 0.8,
    "path.simplify": False,
}


def check_library(what: str, otherwise: str) -> None:
    """Find out whether plots can be drawn.

    Parameters
    ----------
    what
        That has plots.
    otherwise
        What to do where they can't be.

    Raises
    ------
    ConfigError
        With the command that installs what is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise ConfigError(
            f"{what} has plots, and what draws them can't be imported ({missing}). "
            f"Install it with: pip install 'mbexec[plot]'; or {otherwise}."
        ) from missing


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, drawn in the style of the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def without_frame(axes: Axes, *, grid: str = "both") -> None:
    """Leave out what says nothing: the box, and lines above the marks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)


def series(place: int) -> str:
    """The colour of the first, second ... of several."""
    return SERIES[place % len(SERIES)]


def plain(axis: Any, most: int = 7) -> None:
    """Write numbers on a logarithmic axis as plain ones, round in the way of its scale, `most` of them at most."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

    least, greatest = sorted(axis.get_view_interval())
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 1)
    finest: list[list[float]] = [
        [k * 10.0**n for n in powers for k in subs] for subs in (range(1, 10), (1, 2, 5), (1, 3))
    ]
    coarser: list[list[float]] = [[10.0**n for n in powers if n % step == 0] for step in range(1, len(powers) + 1)]
    shown = ([tick for tick in ticks if least <= tick <= greatest] for ticks in [*finest, *coarser])
    ticks = next(found for found in shown if len(found) <= most)
    if len(ticks) < 2:
        ticks = [tick for tick in MaxNLocator(3).tick_values(least, greatest) if least <= tick <= greatest]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: signed(value)))
    axis.set_minor_formatter(NullFormatter())


def signed(value: float) -> str:
    """A number on an axis, with a minus sign that is one."""
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\N{MINUS SIGN}")


def as_svg(figure: Figure, name: str, title: str, tips: Mapping[str, Sequence[str]] | None = None) -> str:
    """What stands in a page.

    Parameters
    ----------
    figure
        Drawn. Artists with a gid become groups of that class, in which each mark is a path or a use of one.
    name
        Of the plot, no other's in the page.
    title
        What the plot shows, for those who hear it.
    tips
        By gid, what to say of each mark when it is pointed at.
    """
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    width = figure.get_figwidth() * 72
    found = text.getvalue()
    body = found[found.index("<defs>") : found.rindex("</svg>")]
    body = re.sub(r"<style type=\"text/css\">.*?</style>", "", body, count=1)  # it would hold for the whole page
    for gid in tips or {}:
        body = _tipped(body, gid, (tips or {})[gid])
    body = re.sub(r'(<(?:g|image)\b[^>]*?) id="marks-([\w-]+)"', r'\1 class="marks marks-\2"', body)
    body = re.sub(r'id="', f'id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("xlink:href", "href").replace("url(#", f"url(#{name}-")
    body = re.sub(r"base64,[^\"]+", lambda match: re.sub(r"\s", "", match[0]), body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub("|".join(_COLOURS), lambda match: _COLOURS[match[0]], body)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    height = figure.get_figheight() * 72
    return (
        f'<div class="plot" tabindex="0"><svg role="img" aria-labelledby="{name}-title" '
        f'viewBox="0 0 {width:g} {height:g}" '
        f'style="min-width: {1.1 * width:.0f}px; max-width: {1.6 * width:.0f}px">'
        f'<title id="{name}-title">{escape(printable(title))}</title>\n{body}</svg></div>'
    )


def _tipped(body: str, gid: str, tips: Sequence[str]) -> str:
    """Give each mark of a group its words."""
    start = body.index(f'<g id="{gid}"')
    end = _end_of_group(body, start)
    left = iter(tips)
    group = re.sub(
        r"<defs>.*?</defs>", lambda match: match[0].replace("<path", "<path-"), body[start:end], flags=re.DOTALL
    )
    group = re.sub(
        r"<(path|use)\b(?!-)([^>]*)/>",
        lambda match: f"<{match[1]}{match[2]}><title>{escape(printable(next(left)))}</title></{match[1]}>",
        group,
    )
    return body[:start] + group.replace("<path-", "<path") + body[end:]


def _end_of_group(body: str, start: int) -> int:
    depth = 0
    for tag in re.finditer(r"<g[ >]|</g>", body[start:]):
        depth += -1 if tag[0] == "</g>" else 1
        if depth == 0:
            return start + tag.end()
    raise AssertionError("groups of an SVG end")
