"""The store sqlite: results in one file, which people can query and several runs can share."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
from attrs import define, field, validators

from mbexec import ConfigError, Task, TaskResult, hookimpl
from mbexec.plugins.sqlite.contents import read_store, told
from mbexec.plugins.sqlite.database import Database, is_damage
from mbexec.plugins.sqlite.opening import is_kept_from_writing, mend, open_store, why
from mbexec.plugins.sqlite.rows import Row, read, written

__all__ = ["Sqlite"]

_REST = 9  # times as long as the last attempt took: no more than a tenth of the time goes into attempts

T = TypeVar("T")


class _Trouble(Exception):  # noqa: N818 - it passes
    """The file can't be used just now; the words say why."""


def _path(given: Any) -> Path:
    if not isinstance(given, (str, Path)):
        raise TypeError(f"path = {given!r:.80} must be text.")
    try:
        return Path(given).resolve()  # SQLite puts its other files beside the real one, not beside a link
    except (OSError, RuntimeError, ValueError):  # opening it says what is wrong
        return Path(given).absolute()


@define(eq=False)
class Sqlite:
    """Keeps results in an SQLite file, each the moment it arrives.

    Attributes
    ----------
    path
        Of the file; made if it is not there.
    bodies
        Whether to keep the whole ``AtomicResult`` of each fragment too.
    patience
        Seconds to wait for another process that has the file locked.
    read_only
        Whether to look results up alone: the file must be there and is left as it is, and no result is kept.
    """

    path: Path = field(converter=_path)
    bodies: bool = field(default=False, validator=validators.instance_of(bool))
    patience: float = field(default=10.0, validator=[validators.instance_of((int, float)), validators.ge(0)])
    read_only: bool = field(default=False, validator=validators.instance_of(bool))
    _database: Database | None = field(default=None, init=False)
    _held: list[Row] = field(factory=list, init=False)
    _troubled: bool = field(default=False, init=False)
    _rest: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        """Open the file, or make it."""
        self._opened(self.patience)
        return self

    def __exit__(self, *_: object) -> None:
        """Write what could not be written before, and say what can't be written now."""
        try:
            if self._held:
                self._done(lambda database: database.wait(self.patience), self.patience)
                self._write(self.patience)
        except _Trouble as trouble:
            self._log("error", "results_not_kept", results=len(self._held), why=str(trouble))
        finally:
            self._close()

    def describe(self) -> str:
        """Where the store is and what it holds, for people."""
        try:
            results, failures = self._done(lambda database: database.count(), self.patience)
        except _Trouble as trouble:
            return f"{self.path}: {trouble}"
        failed = f", {failures} of them failures" if failures else ""
        return f"{self.path}: {results} result{'s' * (results != 1)}{failed}{', read only' if self.read_only else ''}"

    @hookimpl
    def recall_results(self, tasks: Sequence[Task], keys: Sequence[str]) -> list[TaskResult]:
        """Those that are in the file, and as they were written."""
        if self._database is None:
            return []
        try:
            rows = self._done(lambda database: database.find(keys), 0.0 if self._troubled else self.patience)
        except _Trouble as trouble:
            self._wait_less(trouble)
            return []
        if not rows:
            return []
        known = {row[0]: row for row in rows}
        found = [(task, read(known[key], task.index)) for task, key in zip(tasks, keys, strict=True) if key in known]
        if damaged := [task.label for task, result in found if result is None]:
            self._log("warning", "results_damaged", labels=damaged)
            with suppress(_Trouble):
                self._done(lambda database: database.reindex(), self.patience)
        return [result for _, result in found if result is not None]

    @hookimpl
    def keep_result(self, task: Task, key: str, result: TaskResult) -> None:
        """Write it; what can't be written is held, and tried again with the next ones."""
        if self.read_only:
            return
        self._held.append(written(task, key, result))
        begun = time.monotonic()
        if self._troubled and begun < self._rest:
            return
        try:
            if self._database is not None and not self._database.is_there():
                self._close()
                self._log("warning", "store_gone", why="the file was removed, renamed or replaced during the run")
            self._write(0.0 if self._troubled else self.patience)
        except _Trouble as trouble:
            self._wait_less(trouble)
            self._rest = time.monotonic() + _REST * (time.monotonic() - begun)

    def _write(self, patience: float) -> None:
        """Write what is held: one, and if that goes well all the others."""
        self._done(lambda database: database.add_one(self._held[0]), patience)
        del self._held[0]
        if self._held:
            self._done(lambda database: database.add(self._held), patience)
            self._log("info", "results_kept_at_last", results=1 + len(self._held))
            self._held.clear()
        if self._troubled:
            self._troubled = False
            self._done(lambda database: database.wait(self.patience), patience)

    def _done(self, do: Callable[[Database], T], patience: float) -> T:
        """What is done with the file, which is opened or mended if need be; raises _Trouble.

        One that is only read is not mended, and raises ConfigError: nothing that it has is to be taken for missing.
        """
        if self.read_only:
            with told(self.path, patience):
                return do(self._opened(patience))
        try:
            try:
                return do(self._opened(patience))
            except sqlite3.Error as error:
                if not is_damage(error) and not is_kept_from_writing(self.path, error):
                    raise
                self._close()
                mend(self.path, patience, str(error))
                return do(self._opened(patience))
        except (ConfigError, sqlite3.Error, OSError) as error:
            raise _Trouble(why(self.path, error, patience)) from error

    def _opened(self, patience: float) -> Database:
        if self._database is None:
            self._database = (read_store if self.read_only else open_store)(self.path, patience)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _wait_less(self, trouble: _Trouble) -> None:
        """Say once that there is trouble, and from now on don't let the run wait for it to pass."""
        if not self._troubled:
            self._troubled = True
            self._log("warning", "store_in_trouble", why=str(trouble), held="results are held and written later")
        if self._database is not None:
            self._database.wait(0.0)

    def _log(self, level: str, event: str, **told: object) -> None:
        with suppress(Exception):  # where logging fails, results are kept all the same
            getattr(structlog.get_logger("mbexec"), level)(event, path=str(self.path), **told)
