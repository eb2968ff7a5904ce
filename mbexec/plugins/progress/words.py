"""Times and labels in few characters."""

from __future__ import annotations

from collections.abc import Sequence

from mbexec import Task

__all__ = ["short", "span"]

_MOST = 5  # fragments that are named one by one


def span(seconds: float) -> str:
    """A time as people say it, to two places at most."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 100:
        return f"{whole} s"
    if hours < 1:
        return f"{minutes} min {whole % 60:02} s"
    if days < 2:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24:02} h"


def short(task: Task, mcs: int) -> str:
    """QCManyBody's label in short: fragments, their basis if it has others as well, and one of several `mcs`.

    ``["(auto)", [1, 3], [1, 3]]`` is 1-3, and ``["mp2", [2], [1, 2, 3]]`` is mp2:2@1-2-3.
    """
    basis = "" if task.bas == task.frag else f"@{_joined(task.bas)}"
    return f"{task.mc}:" * (mcs > 1) + _joined(task.frag) + basis


def _joined(numbers: Sequence[int]) -> str:
    if len(numbers) > _MOST:
        return f"{_joined(numbers[: _MOST - 2])}-...-{numbers[-1]}"
    return "-".join(map(str, numbers))
