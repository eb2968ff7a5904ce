"""Looking into a store: what it has, row by row, without changing it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import define, frozen

from mbexec import ConfigError, Task, TaskResult
from mbexec.plugins.sqlite.connection import connect
from mbexec.plugins.sqlite.database import Database, check_columns, is_damage
from mbexec.plugins.sqlite.opening import check_is_store, why
from mbexec.plugins.sqlite.rows import COLUMNS, Row, read
from mbexec.plugins.sqlite.salvage import has_odd_header, log_of

__all__ = ["Contents", "Group", "Kept", "check_readable", "connected", "contents", "is_readable", "read_store", "told"]

_NAMES = ", ".join(COLUMNS)
_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_GROUPS = """
SELECT mc, nbody, count(*), count(error_type), sum(ended - started), min(ended), max(ended)
FROM results GROUP BY mc, nbody ORDER BY mc, nbody
"""


@frozen
class Group:
    """What is there of one model chemistry and order.

    Attributes
    ----------
    mc, nbody
        Label of the model chemistry; number of real fragments.
    results, failures
        How many there are, failures included, and how many of them are failures.
    wall_time
        Seconds that they took, one after the other.
    first, last
        When the first and the last of them ended, in seconds since the epoch.
    """

    mc: str
    nbody: int
    results: int
    failures: int
    wall_time: float
    first: float
    last: float


@frozen(eq=False)
class Kept:
    """A row of a store.

    Attributes
    ----------
    key
        Under which it is kept.
    task
        The fragment calculation; its index is of no account.
    result
        What came of it; None if the row is damaged.
    """

    key: str
    task: Task
    result: TaskResult | None


@define(eq=False)
class Contents:
    """A store's file, open to be read. Whatever can't be done raises sqlite3.Error.

    Attributes
    ----------
    connection
        To the file.
    """

    connection: sqlite3.Connection

    def groups(self) -> list[Group]:
        """What is there, by model chemistry and order."""
        return [Group(*row) for row in self.connection.execute(_GROUPS)]

    def count(self) -> int:
        """How many rows there are."""
        (found,) = self.connection.execute("SELECT count(*) FROM results").fetchone()
        return int(found)

    def rows(self, where: str = "TRUE", given: Sequence[Any] = (), most: int = -1) -> Iterator[Kept]:
        """Rows that meet a condition, in the order in which they came; no more than `most` of them."""
        for row in self.raw(where, given, most):
            yield _kept(row)

    def raw(self, where: str = "TRUE", given: Sequence[Any] = (), most: int = -1) -> Iterator[Row]:
        """The same as they stand in the file."""
        yield from self.connection.execute(
            f"SELECT {_NAMES} FROM results WHERE {where} ORDER BY id LIMIT ?", (*given, most)
        )

    def find(self, name: str, most: int) -> list[Kept]:
        """Rows of a fragment calculation, by its label, or those whose keys begin so."""
        if re.fullmatch("[0-9a-f]+", name):
            return list(self.rows("substr(key, 1, ?) = ?", (len(name), name), most))
        return list(self.rows("mc = ? AND frag = ? AND bas = ?", _label(name), most))


def _label(name: str) -> tuple[str, str, str]:
    try:
        mc, frag, bas = json.loads(name)
        return mc, str([int(i) for i in frag]), str([int(i) for i in bas])
    except (ValueError, TypeError):
        raise ConfigError(
            f"{name!r:.80} is neither a label, such as '[\"(auto)\", [2], [1, 2]]', nor the beginning of a key, such "
            "as 3f9a; `mbexec store ls --fragments` lists both."
        ) from None


def _kept(row: Row) -> Kept:
    mc, frag, bas = (row[_PLACES[name]] for name in ("mc", "frag", "bas"))
    try:
        task = Task(0, str(mc), tuple(json.loads(frag)), tuple(json.loads(bas)))
    except (ValueError, TypeError):  # damaged
        task = Task(0, str(mc), (), ())
    return Kept(str(row[0]), task, read(row, 0))


@contextmanager
def contents(path: Path, patience: float) -> Iterator[Contents]:
    """Open a store to look into it; nothing is made or mended.

    Parameters
    ----------
    path
        Of its file.
    patience
        Seconds to wait for another process that has it locked.

    Raises
    ------
    ConfigError
        If there is none, it is damaged, or it can't be read.
    """
    with told(path, patience):
        check_readable(path)
        with closing(connected(path, patience)) as connection:
            yield Contents(connection)


def read_store(path: Path, patience: float) -> Database:
    """Open a store to look results up; see :func:`contents`."""
    with told(path, patience):
        check_readable(path)
        return Database(path, connected(path, patience))


def check_readable(path: Path) -> None:
    """Refuse a store that is not there, or whose header SQLite can't read.

    Raises
    ------
    ConfigError
        Says which.
    """
    if not is_readable(path):
        raise _damaged(path, "its header can't be read")


def is_readable(path: Path) -> bool:
    """Whether SQLite can read the header of a store.

    Raises
    ------
    ConfigError
        If there is no store at that place.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"The store {path} is no file but a folder or a device; give the store another name.")
    if not path.exists() or not (path.stat().st_size or log_of(path).exists()):
        raise ConfigError(f"There is no store {path}. A run makes one; give its path, or that of the job.")
    return check_is_store(path)


@contextmanager
def told(path: Path, patience: float) -> Iterator[None]:
    """Let what SQLite says of a store be told in our words."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.Error) and (is_damage(error) or has_odd_header(path)):
            raise _damaged(path, str(error)) from error
        raise ConfigError(f"The store {path} can't be used: {why(path, error, patience)}.") from error


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The store {path} is damaged: {reason}. `mbexec store verify` says how much of it can be read, and the next "
        "run saves that in a new file."
    )


def connected(path: Path, patience: float) -> sqlite3.Connection:
    """A connection to a store that can't change it.

    To read a log takes a shared file beside it, which can't be made where one may not write.
    """
    writable = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    way = "mode=rw" if writable else "mode=ro" if log_of(path).exists() else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{way}"
    connection = connect(uri, patience, uri=True)
    try:
        connection.execute("PRAGMA query_only = ON")
        check_columns(connection)
    except BaseException:
        connection.close()
        raise
    return connection
