"""What can be read of a damaged store: rows, found page by page, that are as they were written.

Pages, cells and records are those of SQLite's Database File Format, https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mbexec.plugins.sqlite.database import APPLICATION, PAGE
from mbexec.plugins.sqlite.rows import COLUMNS, Row, is_whole

__all__ = ["begins_as_store", "has_odd_header", "log_of", "readable_rows"]

_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_LEAF = 0x0D
_MOST_LOCAL = PAGE - 35
_LEAST_LOCAL = (PAGE - 12) * 32 // 255 - 23
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_LOG_HEADER, _FRAME = 32, 24

_Newest = Mapping[int, tuple[int, int]]
_Places = list[tuple[int, int, int]]  # number of the page, file descriptor, where it begins in the file


def log_of(path: Path) -> Path:
    """SQLite's log of what was written last."""
    return path.with_name(f"{path.name}-wal")


def begins_as_store(path: Path) -> bool:
    """Whether the header of a file is that of a store, and the file can be no other."""
    head = _head(path)
    return head.startswith(_MAGIC) and head[68:72] == APPLICATION.to_bytes(4, "big")


def has_odd_header(path: Path) -> bool:
    """Whether the header of a store asks for a way of reading or writing that no SQLite has."""
    return begins_as_store(path) and not {*_head(path)[18:20]} <= {1, 2}


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER)


def readable_rows(path: Path, most: int | None = None) -> Iterator[Row]:
    """All rows in a file and its log that are as they were written; of one key there may be several, the last one last.

    Nothing is taken for granted but the size of a page: indices, the tree and the header may be damaged. With `most`,
    no more than that many pages are looked at.
    """
    with ExitStack() as stack:
        places = [*_main(_opened(path, stack)), *_log(_opened(log_of(path), stack))]
        newest = {number: (file, start) for number, file, start in places}
        for number, file, start in places[:most]:
            page = os.pread(file, PAGE, start)
            for cell in _cells(page, _HEADER if number == 1 else 0):
                row = _row(page, cell, newest)
                if row is not None and is_whole(row):
                    yield row


def _opened(path: Path, stack: ExitStack) -> tuple[int, int]:
    """A file's descriptor and its size; a file that is not there is empty."""
    if not path.exists():
        return -1, 0
    file = stack.enter_context(path.open("rb")).fileno()
    return file, os.fstat(file).st_size


def _main(opened: tuple[int, int]) -> _Places:
    file, size = opened
    return [(number, file, start) for number, start in enumerate(range(0, size, PAGE), start=1)]


def _log(opened: tuple[int, int]) -> _Places:
    file, size = opened
    starts = range(_LOG_HEADER, size, _FRAME + PAGE)
    return [(int.from_bytes(os.pread(file, 4, start), "big"), file, start + _FRAME) for start in starts]


def _cells(page: bytes, start: int) -> list[int]:
    """Where the rows of a page begin, if it is one of a table's leaves."""
    if len(page) < start + 8 or page[start] != _LEAF:
        return []
    count = min(int.from_bytes(page[start + 3 : start + 5], "big"), (len(page) - start - 8) // 2)
    return list(struct.unpack_from(f">{count}H", page, start + 8))


def _row(page: bytes, cell: int, pages: _Newest) -> Row | None:
    """What stands at a place of a page, if it can be read as a row."""
    try:
        size, place = _varint(page, cell)
        _, place = _varint(page, place)
        values = _values(_payload(page, place, size, pages))
    except (IndexError, KeyError, ValueError, struct.error):
        return None
    return tuple(values[1:]) if len(values) == 1 + len(COLUMNS) else None  # the first is the id


def _payload(page: bytes, place: int, size: int, pages: _Newest) -> bytes:
    """The bytes of a row; those that don't fit on its page are on a chain of others."""
    if size <= _MOST_LOCAL:
        return page[place : place + size]
    local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE - 4)
    if local > _MOST_LOCAL:
        local = _LEAST_LOCAL
    parts = [page[place : place + local]]
    (following,) = struct.unpack_from(">I", page, place + local)
    for _ in range(len(pages)):
        if not following:
            break
        file, start = pages[following]
        further = os.pread(file, PAGE, start)
        parts.append(further[4:])
        (following,) = struct.unpack_from(">I", further)
    return b"".join(parts)[:size]


def _values(payload: bytes) -> list[Any]:
    end, place = _varint(payload, 0)
    start = end
    values = []
    while place < end:
        kind, place = _varint(payload, place)
        size = (kind - 12) // 2 if kind >= 12 else _SIZES[kind]
        values.append(_value(kind, payload[start : start + size]))
        start += size
    for place, told in enumerate(COLUMNS.values(), start=1):
        if told == "REAL" and isinstance(values[place], int):  # as which SQLite writes whole numbers
            values[place] = float(values[place])
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind >= 12:
        return data.decode() if kind % 2 else data
    if kind == 7:
        return struct.unpack(">d", data)[0]
    return {0: None, 8: 0, 9: 1}[kind] if kind in (0, 8, 9) else int.from_bytes(data, "big", signed=True)


def _varint(data: Any, place: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    number = 0
    for count in range(8):
        byte = data[place + count]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + count + 1
    return number << 8 | data[place + 8], place + 9
