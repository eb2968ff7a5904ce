"""A result as a row of the store's table and back, to the last bit, or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from mbexec import Task, TaskError, TaskResult

__all__ = ["Row", "is_whole", "read", "written"]

Row = tuple[Any, ...]

FORMAT = 1  # a later one makes other checksums
COLUMNS = {
    "key": "TEXT NOT NULL UNIQUE",
    "mc": "TEXT",
    "frag": "TEXT",
    "bas": "TEXT",
    "nbody": "INTEGER",
    "energy": "REAL",
    "error_type": "TEXT",
    "error_message": "TEXT",
    "started": "REAL",
    "ended": "REAL",
    "cpu_time": "REAL",
    "worker": "TEXT",
    "step": "INTEGER",
    "notes": "TEXT",
    "output": "TEXT",
    "shapes": "TEXT",
    "numbers": "BLOB",
    "body": "BLOB",
    "checksum": "BLOB",
}
_BLOBS = len(COLUMNS) - 3


def written(task: Task, key: str, result: TaskResult) -> Row:
    """The row of a result."""
    shapes, numbers = _packed(result.values)
    error = result.error
    energy = result.values.get("energy")
    head = (
        key,
        _text(task.mc),
        str(list(task.frag)),
        str(list(task.bas)),
        task.nbody,
        None if energy is None else float(energy) + 0.0,  # SQLite has no -0.0; numbers has
        None if error is None else _text(error.error_type),
        None if error is None else _text(error.error_message),
        float(result.started),
        float(result.ended),
        float(result.cpu_time),
        _text(result.worker),
        result.step,
        _text(json.dumps(result.notes)) if result.notes else None,
        _text(result.output) or None,
        shapes,
    )
    body = None if result.body is None else zlib.compress(result.body)
    return (*head, numbers, body, _checksum(head, numbers, body))


def read(row: Row, index: int) -> TaskResult | None:
    """The result of a row, for the task at that place of the plan; None if anything in the row is damaged."""
    if not is_whole(row):
        return None
    _, _, _, _, _, _, kind, message, started, ended, cpu, worker, step, notes, output, shapes, numbers, body, _ = row
    return TaskResult(
        index,
        _unpacked(shapes, numbers),
        None if kind is None else TaskError(kind, message),
        started,
        ended,
        cpu,
        worker,
        None if body is None else zlib.decompress(body),
        () if notes is None else tuple(json.loads(notes)),
        output or "",
        step,
    )


def is_whole(row: Row) -> bool:
    """Whether a row is as it was written."""
    try:
        return bool(row[-1] == _checksum(row[:_BLOBS], row[_BLOBS], row[_BLOBS + 1]))
    except TypeError:  # what was a number or bytes is something else now
        return False


def _checksum(head: Row, numbers: bytes, body: bytes | None) -> bytes:
    """Of everything in a row; JSON says the same of the same text and numbers in any version of Python."""
    told = json.dumps([FORMAT, *head, len(numbers), body if body is None else len(body)])
    digest = hashlib.blake2b(told.encode(), digest_size=8)
    digest.update(numbers)
    digest.update(body or b"")
    return digest.digest()


def _packed(values: Mapping[str, Any]) -> tuple[str, bytes]:
    """Shapes by name as JSON, and all numbers, one after the other, as little-endian doubles."""
    shapes: dict[str, tuple[int, ...]] = {}
    parts = []
    for name, value in values.items():
        if isinstance(value, float):
            shapes[name] = ()
            parts.append(struct.pack("<d", value))
        else:
            array = np.asarray(value, dtype="<f8")
            shapes[name] = array.shape
            parts.append(array.tobytes())
    return _told(tuple(shapes.items())), b"".join(parts)


@lru_cache(maxsize=256)
def _told(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    return json.dumps(dict(shapes))


def _unpacked(shapes: str, numbers: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    start = 0
    for name, shape, count in _places(shapes):
        part = np.frombuffer(numbers, "<f8", count, start)
        values[name] = part.astype(np.float64).reshape(shape) if shape else float(part[0])
        start += 8 * count
    return values


@lru_cache(maxsize=256)
def _places(shapes: str) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, shape and size of each array; one and the same for most results."""
    return [(name, tuple(shape), math.prod(shape)) for name, shape in json.loads(shapes).items()]


def _text(text: str) -> str:
    """As SQLite takes it: programs may print what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()
