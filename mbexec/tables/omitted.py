"""What a run has left out, by cutoffs and by screening: rows and words that tables and reports have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["LEFT_OUT", "SCREENING", "left_out_rows", "left_out_words", "screening_rows", "screening_words"]

LEFT_OUT = ("BSSE", "n-body", "fragment sets", "one sign / E_h", "random signs / E_h")
SCREENING = ("n-body", "threshold / E_h", "sets", "left out", "sum of them / E_h", "largest / E_h", "not known")
_COUNTED = " The supersystem's contribution holds them, in its own model chemistry."


def left_out_rows(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """What the energies do not count, and how large that may be."""
    return [
        (
            each["bsse_type"],
            str(each["nbody"]),
            f"{each['left_out']:,} of {each['of']:,}",
            *("-" if each[name] is None else f"{each[name]:.1e}" for name in ("bound", "random")),
        )
        for each in found
    ]


def left_out_words(found: Sequence[Mapping[str, Any]], *, supersystem: bool) -> list[str]:
    """What the estimates are, and why there are none; with a supersystem, that its contribution holds them."""
    told = "Estimates, by how energies of the sets that were computed decay with distance: as if all had one sign, and "
    return [
        f"{told}as if signs were random." + _COUNTED * supersystem,
        *(f"{each['nbody']}-body: {each['reason']}" for each in found if each["reason"]),
    ]


def screening_rows(told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each order that was screened."""
    return [
        (
            str(order["nbody"]),
            f"{order['threshold']:g}",
            f"{order['candidates']:,}",
            f"{order['dropped']:,}",
            f"{order['dropped_sum']:.10f}",
            f"{order['dropped_largest']:.1e}",
            f"{order['unknown']:,}",
        )
        for order in told["orders"]
    ]


def screening_words(told: Mapping[str, Any], *, supersystem: bool) -> str:
    """By what was screened, and what became of what was left out."""
    counted = "count in the result" if told["dropped"] == "cheap" else "do not count in the result"
    counted = "do not count in their order" if supersystem else counted
    words = f"Increments are those of {told['program']}; the ones left out {counted}.{_COUNTED * supersystem}"
    unknown = any(order["unknown"] for order in told["orders"])
    return words + " Those not known, since calculations of them failed, were kept." * unknown
