"""The file of a store: made, opened, asked and written to with SQLite, by one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import psutil
from attrs import define, field

from mbexec.plugins.sqlite.connection import connect, damage
from mbexec.plugins.sqlite.rows import COLUMNS, FORMAT, Row

__all__ = ["Database", "check_columns", "is_damage", "network"]

APPLICATION = 0x6D626578  # "mbex"
PAGE = 4096

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS results (
  id INTEGER PRIMARY KEY,
  {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}
);
CREATE INDEX IF NOT EXISTS failures ON results (error_type) WHERE error_type IS NOT NULL;
CREATE VIEW IF NOT EXISTS fragments AS
  SELECT '[' || json_quote(mc) || ', ' || frag || ', ' || bas || ']' AS label, nbody, energy, error_type, error_message,
    ended - started AS wall_time, cpu_time, datetime(ended, 'unixepoch', 'localtime') AS ended, worker, notes, key
  FROM results;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""
_NAMES = ", ".join(COLUMNS)
# A success is not replaced by a failure.
_ADD = f"""
INSERT INTO results ({_NAMES}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS)}
WHERE excluded.error_type IS NULL OR results.error_type IS NOT NULL
"""
_FIND = f"SELECT {_NAMES} FROM results WHERE key IN "
_COUNT = "SELECT (SELECT count(*) FROM results), (SELECT count(*) FROM results WHERE error_type IS NOT NULL)"
_BATCH = 500  # some SQLites take 999 parameters at most

_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "beegfs_nodev",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
}
_NETWORK |= {"nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "rclone", "s3fs", "smb3", "smbfs", "sshfs", "vboxsf"}
_NETWORK |= {"virtiofs", "wekafs"}


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is not what SQLite wrote; a statement of ours that it can't read is due to that as well."""
    damage = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH)
    return getattr(error, "sqlite_errorcode", -1) & 0xFF in damage


def check_columns(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.Error if what is in the columns of a store would be taken for something else, or they are gone."""
    columns = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(results)")}
    for name, told in {"id": "INTEGER", **COLUMNS}.items():
        if columns.get(name) != told.split()[0]:
            raise damage(f"malformed database schema: the column {name} is not {told.split()[0]}")


def network(path: Path) -> str | None:
    """The kind of the network file system that a file is on; None if it is on a disk of this machine."""
    folders = [str(folder) for folder in path.resolve().parents]
    try:
        mounted = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    except OSError:  # there is no /proc
        return None
    kind = next((mounted[folder] for folder in folders if folder in mounted), "")
    return kind if kind.removeprefix("fuse.") in _NETWORK else None


@define(eq=False)
class Database:
    """A store's file, open. Whatever can't be done raises sqlite3.Error.

    Attributes
    ----------
    path
        Of the file.
    connection
        To be used in the thread that opened it.
    """

    path: Path
    connection: sqlite3.Connection
    _file: tuple[int, int] = field(default=(0, 0), init=False)

    @classmethod
    def opened(cls, path: Path, patience: float, *, shared: bool) -> Self:
        """Open a file, or make it.

        Parameters
        ----------
        path
            Of the file.
        patience
            Seconds to wait for other processes, here and later.
        shared
            Whether processes of this machine alone use the file, so that they may share memory to do so.
        """
        connection = connect(path, patience)
        try:
            database = cls(path, connection)
            database._set_up(shared)
        except BaseException:
            connection.close()
            raise
        return database

    def _set_up(self, shared: bool) -> None:
        execute = self.connection.execute
        execute(f"PRAGMA page_size = {PAGE}")
        execute("PRAGMA secure_delete = ON")  # what was deleted is not to come back from a damaged file
        execute("PRAGMA synchronous = NORMAL")
        if not execute("PRAGMA user_version").fetchone()[0]:
            self.connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} COMMIT;")
        check_columns(self.connection)
        (mode,) = execute("PRAGMA journal_mode").fetchone()
        if shared and mode != "wal":
            self._share()
        elif not shared and mode != "delete":
            execute("PRAGMA journal_mode = DELETE")
        self.count()
        self._file = _identity(self.path)

    def is_there(self) -> bool:
        """Whether the file still is the one that was opened; someone may have removed or replaced it."""
        return self._file == _identity(self.path)

    def _share(self) -> None:
        """Turn to a log that many may read while one writes, unless someone is busy with the file just now."""
        try:
            self.connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise

    def count(self) -> tuple[int, int]:
        """How many results there are, failures included, and how many of them are failures."""
        results, failures = self.connection.execute(_COUNT).fetchone()
        return results, failures

    def find(self, keys: Sequence[str]) -> list[Row]:
        """The rows of those of the keys that there are."""
        found: list[Row] = []
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            found += self.connection.execute(f"{_FIND} ({','.join('?' * len(batch))})", batch)
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows, all of them or none."""
        rows = iter(rows)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.connection.executemany(_ADD, rows)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def add_one(self, row: Row) -> None:
        """Write a row, which is a transaction of its own."""
        self.connection.execute(_ADD, row)

    def reindex(self) -> None:
        """Make the index anew: one that points to other rows would spoil these when results are kept again."""
        try:
            self.connection.execute("REINDEX")
        except sqlite3.IntegrityError as error:
            raise damage("two rows have one key") from error

    def wait(self, patience: float) -> None:
        """From now on wait as many seconds for other processes."""
        self.connection.execute(f"PRAGMA busy_timeout = {round(1000 * patience)}")

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
