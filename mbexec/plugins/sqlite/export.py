"""A store for others to read: as lines of JSON with QCSchema's names, and as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mbexec import TaskResult
from mbexec.plugins.sqlite.contents import Kept

__all__ = ["FORMATS"]

_COLUMNS = ("label", "nbody", "energy", "wall_time", "cpu_time", "ended", "error_type", "error_message", "key")


def _json_lines(rows: Iterable[tuple[Kept, TaskResult]]) -> Iterator[str]:
    """An object a line; numbers to the last bit."""
    return (json.dumps(_entry(row, result)) + "\n" for row, result in rows)


def _entry(row: Kept, result: TaskResult) -> dict[str, Any]:
    names = {name: f"return_{name}" for name in ("energy", "gradient", "hessian")}
    body = None if result.body is None else {"body": json.loads(result.body)}
    return {
        "key": row.key,
        "label": row.task.label,
        "mc": row.task.mc,
        "frag": row.task.frag,
        "bas": row.task.bas,
        "nbody": row.task.nbody,
        "success": result.error is None,
        "properties": {names.get(name, name): np.asarray(value).tolist() for name, value in result.values.items()},
        "error": None
        if result.error is None
        else {"error_type": result.error.error_type, "error_message": result.error.error_message},
        "wall_time": result.wall_time,
        "cpu_time": result.cpu_time,
        "started": _time(result.started),
        "ended": _time(result.ended),
        "worker": result.worker,
        "step": result.step,
        "notes": result.notes,
        "output": result.output,
        **(body or {}),
    }


def _csv(rows: Iterable[tuple[Kept, TaskResult]]) -> Iterator[str]:
    """A heading, then a line for each result, without its arrays."""
    yield _line(_COLUMNS)
    for row, result in rows:
        energy = result.values.get("energy")
        error = ("", "") if result.error is None else (result.error.error_type, result.error.error_message)
        times = (f"{result.wall_time:.6f}", f"{result.cpu_time:.6f}", _time(result.ended))
        yield _line((row.task.label, row.task.nbody, "" if energy is None else repr(energy), *times, *error, row.key))


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


FORMATS: dict[str, Callable[[Iterable[tuple[Kept, TaskResult]]], Iterator[str]]] = {".jsonl": _json_lines, ".csv": _csv}
