"""A connection to the file of a store, whose complaints are errors of SQLite even where they can't be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

__all__ = ["connect", "damage"]

P = ParamSpec("P")
T = TypeVar("T")


def damage(what: str) -> sqlite3.DatabaseError:
    """The error that SQLite would raise if it had found the same."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def _readable(do: Callable[P, T]) -> Callable[P, T]:
    """Do the same, but where the file's schema is damaged so that it is no text, say so as SQLite would.

    Python decodes names and messages of SQLite strictly, and both may quote the schema.
    """

    @wraps(do)
    def _done(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return do(*args, **kwargs)
        except UnicodeDecodeError as error:
            raise damage("malformed database schema: it is no text") from error

    return _done


class _Cursor(sqlite3.Cursor):
    execute = _readable(sqlite3.Cursor.execute)
    executemany = _readable(sqlite3.Cursor.executemany)
    executescript = _readable(sqlite3.Cursor.executescript)
    fetchone = _readable(sqlite3.Cursor.fetchone)
    fetchmany = _readable(sqlite3.Cursor.fetchmany)
    fetchall = _readable(sqlite3.Cursor.fetchall)

    @_readable
    def __next__(self) -> Any:
        return super().__next__()


class _Connection(sqlite3.Connection):
    def execute(self, *given: Any) -> sqlite3.Cursor:
        """Run a statement with our cursor."""
        return _Cursor(self).execute(*given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        """Run a statement many times with our cursor."""
        return _Cursor(self).executemany(*given)

    def executescript(self, script: str) -> sqlite3.Cursor:
        """Run several statements with our cursor."""
        return _Cursor(self).executescript(script)


def connect(database: Path | str, patience: float = 0.0, *, uri: bool = False) -> sqlite3.Connection:
    """A connection to a file, in which each statement is a transaction of its own.

    Parameters
    ----------
    database
        Path of the file, or with `uri` its address.
    patience
        Seconds to wait for other processes.
    uri
        Whether an address is given.
    """
    connection = sqlite3.connect(database, timeout=patience, isolation_level=None, uri=uri, factory=_Connection)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    """Text as it is in a file, damaged or not."""
    return data.decode("utf-8", "replace")  # damaged text differs from what its checksum says
