"""Looking after a store: whether all of it is as it was written, and taking out what nobody needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import define, frozen

from mbexec.plugins.sqlite.contents import Contents, check_readable, connected, is_readable, told
from mbexec.plugins.sqlite.database import Database, is_damage, network
from mbexec.plugins.sqlite.opening import why
from mbexec.plugins.sqlite.rows import is_whole
from mbexec.plugins.sqlite.salvage import has_odd_header, readable_rows

__all__ = ["Health", "Pruning", "examined", "pruning"]


@frozen
class Health:
    """What became of a store since it was written.

    Attributes
    ----------
    good
        How many results are as they were written.
    damaged
        Keys of those that are not.
    problems
        What SQLite says is wrong with the file.
    readable
        Whether SQLite can read it to the end.
    """

    good: int
    damaged: tuple[str, ...]
    problems: tuple[str, ...]
    readable: bool


def examined(path: Path, patience: float) -> Health:
    """Read every row of a store and compare it with its checksum, and let SQLite check the file.

    Raises
    ------
    ConfigError
        If there is no store, or it can't be read for another reason than damage.
    """
    problems: list[str] = []
    with told(path, patience):
        if is_readable(path):
            try:
                return _read(path, patience, problems)
            except sqlite3.Error as error:
                if not is_damage(error) and not has_odd_header(path):
                    raise
                problems.append(str(error))
        good = {row[0] for row in readable_rows(path)}
    return Health(len(good), (), tuple(problems or ["its header can't be read"]), readable=False)


def _read(path: Path, patience: float, problems: list[str]) -> Health:
    """What SQLite can read of a store, row by row."""
    with closing(connected(path, patience)) as connection:
        problems += [line for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
        good, damaged = 0, []
        for row in Contents(connection).raw():
            if is_whole(row):
                good += 1
            else:
                damaged.append(str(row[0]))
    return Health(good, tuple(damaged), tuple(problems), readable=True)


@define(eq=False)
class Pruning:
    """What is to be taken out of a store. Whatever can't be done raises sqlite3.Error.

    Attributes
    ----------
    database
        The store.
    where, given
        The condition that rows to be removed meet, in SQL, and its parameters.
    patience
        Seconds that other processes are waited for.
    """

    database: Database
    where: str
    given: tuple[Any, ...]
    patience: float

    def count(self) -> tuple[int, int]:
        """How many results meet the condition, and how many of them are failures."""
        query = f"SELECT count(*), count(error_type) FROM results WHERE {self.where}"
        results, failures = self.database.connection.execute(query, self.given).fetchone()
        return results, failures

    def remove(self) -> int:
        """Remove them; how many they were."""
        return self.database.connection.execute(f"DELETE FROM results WHERE {self.where}", self.given).rowcount

    def shrink(self) -> str:
        """Give the room that they took back to the disk; what prevents it, if anything does."""
        try:
            self.database.connection.execute("VACUUM")
        except sqlite3.Error as error:
            return why(self.database.path, error, self.patience)
        return ""


@contextmanager
def pruning(
    path: Path, patience: float, *, failures: bool, before: float | None, needed: Collection[str] | None
) -> Iterator[Pruning]:
    """Open a store to take out of it what meets all conditions that are given.

    Parameters
    ----------
    path
        Of its file.
    patience
        Seconds to wait for another process that has it locked.
    failures
        Failures only.
    before
        Only what ended before this time, in seconds since the epoch.
    needed
        Keys that stay; None for no such condition.

    Raises
    ------
    ConfigError
        If there is no store, it is damaged, or another process has it locked for longer.
    """
    conditions = ["TRUE"]
    if failures:
        conditions.append("error_type IS NOT NULL")
    if before is not None:
        conditions.append("ended < ?")
    if needed is not None:
        conditions.append("key NOT IN (SELECT key FROM temp.needed)")
    with told(path, patience):
        check_readable(path)
        with closing(Database.opened(path, patience, shared=network(path) is None)) as database:
            if needed is not None:
                _remember(database.connection, needed)
            yield Pruning(database, " AND ".join(conditions), () if before is None else (before,), patience)


def _remember(connection: sqlite3.Connection, keys: Collection[str]) -> None:
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE needed (key TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("BEGIN")
    connection.executemany("INSERT OR IGNORE INTO temp.needed VALUES (?)", ((key,) for key in keys))
    connection.execute("COMMIT")
