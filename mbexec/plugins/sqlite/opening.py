"""Opening a store: only one of ours, whatever state it is in; one that is damaged is mended first."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import structlog

from mbexec import ConfigError
from mbexec.plugins.sqlite.connection import connect
from mbexec.plugins.sqlite.database import APPLICATION, Database, is_damage, network
from mbexec.plugins.sqlite.rows import FORMAT
from mbexec.plugins.sqlite.salvage import begins_as_store, has_odd_header, log_of, readable_rows

__all__ = ["check_is_store", "is_kept_from_writing", "mend", "open_store", "why"]

_MAKING = 1.0  # s; takes milliseconds on a machine that is not busy
_MOST_MAKING = 5.0  # s; another program's file may always have somebody writing to it
_LOOKED_AT = 1000
_POLL = 0.02
_NO_FILE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_ROOM = 100_000
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def open_store(path: Path, patience: float) -> Database:
    """Open a store, or make it.

    Parameters
    ----------
    path
        Of its file.
    patience
        Seconds to wait for other processes.

    Raises
    ------
    ConfigError
        If that can't be. A file that is no store is left as it is.
    """
    _check_name(path)
    try:
        _check_place(path)
        kind = network(path)
        if path.exists() and not check_is_store(path):
            mend(path, patience, "its header can't be read")
        database = _opened(path, patience, shared=kind is None)
        database.count()
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(
            f"The store {path} can't be used: {why(path, error, patience)}. "
            "Mend that, give the store another place, or run without one."
        ) from error
    if kind is not None:
        _log("info", "store_on_network", path, filesystem=kind, why="each result takes longer to keep there")
    return database


def _check_name(path: Path) -> None:
    """Refuse what is no name for a file, or leaves no room for those that SQLite makes beside it."""
    try:
        for each in (path, f"{path}-journal"):
            with suppress(FileNotFoundError):
                os.stat(each)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ConfigError(
                f"The store {str(path)!r:.80} can't have that name: {why(path, error, 0.0)}. Give it another."
            ) from error


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"The folder of the store {path} does not exist; make it, or give the store another place.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"The store {path} is no file but a folder or a device; give the store another name.")
    for place, needs in ((folder, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        if place.exists() and not os.access(place, needs):
            raise ConfigError(
                f"The store {path} can't be written to: you may not write to {place}. Give the store another place, "
                "or run without one."
            )


def check_is_store(path: Path) -> bool:
    """Whether a file is a store by its header; False if it is one in spite of it.

    Raises
    ------
    ConfigError
        If the file is no store of ours at all.
    """
    told = _settled(path)
    if told == (APPLICATION, FORMAT) or (told is None and begins_as_store(path)):
        return True  # if anything else is wrong with it, that shows when it is opened
    if told is not None and told[0] == APPLICATION and told[1] > FORMAT:
        raise ConfigError(
            f"The store {path} is one of a newer mbexec, or its header is damaged: it has format {told[1]}, and this "
            f"mbexec knows {FORMAT}. Upgrade mbexec, or give the store another name; the file is left as it is."
        )
    if path.stat().st_size == 0:
        return not log_of(path).exists() or log_of(path).stat().st_size == 0
    if next(readable_rows(path, _LOOKED_AT), None) is not None:
        return False
    raise ConfigError(
        f"The file {path} is no store of mbexec, and is left as it is; give the store another name, or run without one."
    )


def _settled(path: Path) -> tuple[int, int] | None:
    """What the header tells when nobody is making the file just now: until that is done, a journal stands beside it."""
    journal = path.with_name(f"{path.name}-journal")
    end = time.monotonic() + _MOST_MAKING
    while True:
        before = _is_young(journal)
        told = _told(path)
        if told == (APPLICATION, FORMAT) or not (before or _is_young(journal)) or time.monotonic() > end:
            return told
        time.sleep(_POLL)


def _is_young(path: Path) -> bool:
    """Whether a file is there that somebody has just written; one that a killed process left soon is not."""
    try:
        return abs(time.time() - path.stat().st_mtime) < _MAKING  # clocks of network file systems may be ahead
    except OSError:
        return False


def _told(path: Path) -> tuple[int, int] | None:
    """Application and version in the header of an SQLite file; None if SQLite can't read it. Nothing is written.

    SQLite reads the header, since closing a file that we had opened would end all locks that this process has on it.
    """
    try:
        with closing(connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error) and not has_odd_header(path):
            raise
        return None
    return application, version


def _opened(path: Path, patience: float, *, shared: bool) -> Database:
    try:
        return Database.opened(path, patience, shared=shared)
    except sqlite3.Error as error:
        if not is_damage(error) and not has_odd_header(path):
            raise
        mend(path, patience, str(error))
        return Database.opened(path, patience, shared=shared)


def is_kept_from_writing(path: Path, error: sqlite3.Error) -> bool:
    """Whether SQLite reads a store but refuses to write to it, because of damage to its header."""
    return getattr(error, "sqlite_errorcode", -1) & 0xFF == sqlite3.SQLITE_READONLY and has_odd_header(path)


def mend(path: Path, patience: float, reason: str) -> None:
    """Put a new store with all that can be read in the place of a damaged one, which is set aside beside it.

    Raises
    ------
    ConfigError
        If the new one can't be written.
    """
    try:
        with path.open("r+b") as file:
            _lock(file, patience)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return  # another process was quicker
            aside, results = _replaced(path)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(
            f"The store {path} is damaged, and what can be read of it can't be written to a new file: "
            f"{why(path, error, patience)}. Mend that, give the store another name, or run without one."
        ) from error
    _log("warning", "store_damaged", path, why=reason, saved=results, set_aside=str(aside))


def _log(level: str, event: str, path: Path, **told: object) -> None:
    with suppress(Exception):  # where logging fails, results are kept all the same
        getattr(structlog.get_logger("mbexec"), level)(event, path=str(path), **told)


def _lock(file: IO[bytes], patience: float) -> None:
    """Keep other processes from mending the same file; where there are no such locks, they are not kept from it."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL)
        except OSError:
            return
        else:
            return


def _replaced(path: Path) -> tuple[Path, int]:
    """Where the damaged file is now, and how many results the new one in its place has."""
    new = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with closing(Database.opened(new, 0.0, shared=False)) as database:
            database.add(readable_rows(path))
            results, _ = database.count()
        aside = _unused_name(path)
        for suffix in ("-wal", "-journal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        try:
            aside.hardlink_to(path)  # so that there is a store at any moment
        except OSError:
            path.rename(aside)
        new.replace(path)
    finally:
        for suffix in ("", "-journal"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
    return aside, results


def _unused_name(path: Path) -> Path:
    number = 1
    while os.path.lexists(found := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    return found


def why(path: Path, error: Exception, patience: float) -> str:
    """What is wrong with a store, in words that follow a colon."""
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF
    if code in _BUSY or isinstance(error, BlockingIOError):
        return f"another process held it locked for more than {patience:g} s"
    if code == sqlite3.SQLITE_FULL or (code in _NO_FILE and _is_full(path)):
        return "the disk is full"
    return str(getattr(error, "strerror", None) or error)


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(path.absolute().parent).free < _ROOM
    return False
