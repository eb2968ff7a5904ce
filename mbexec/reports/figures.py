"""Figures as every kind of report shows them."""

from __future__ import annotations

from mbexec.tables import size_of

__all__ = ["MISSING", "fixed", "percent", "ratio", "seconds", "size"]

MISSING = "-"  # what was not measured


def seconds(time: float | None) -> str:
    """A time, to three digits at least."""
    if time is None:
        return MISSING
    if abs(time) >= 100:
        return f"{time:,.0f} s"
    return f"{time:.3g} s" if abs(time) >= 0.01 or not time else f"{1e3 * time:.3g} ms"


def fixed(time: float | None) -> str:
    """A time in s, to four digits, in a column of such."""
    return MISSING if time is None else f"{float(f'{time:.4g}'):,g}"


def ratio(value: float | None) -> str:
    """How many times as much."""
    return MISSING if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def size(count: int | None) -> str:
    """Bytes, in units that people read."""
    return MISSING if count is None else size_of(count)
