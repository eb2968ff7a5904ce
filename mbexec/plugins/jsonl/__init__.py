"""The reporter jsonl: what happens, as lines of JSON in a file that later runs go on with."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from attrs import define, field

from mbexec import ConfigError, FragmentDone, MetricsEvent, RunStarted, hookimpl
from mbexec.plugins.jsonl.words import line

__all__ = ["Jsonl", "begins_as_record"]

_BEGIN = re.compile(rb'\{"event":"\w+","run_id":"\w*')
_CUT = b'{"event":"run_started","run_id":"'
_ENOUGH = 128  # bytes to know a record by
_MANY = 32  # events that are put in words together: fewer would take longer each, and more much memory
_ROOM = 2**16  # bytes that wait to be written: more is memory not used yet, which takes longer than to write them
_PAUSE = 0.1  # seconds between lines where they are fewer
_LONGER = 2.0  # the same while many come: a thread that wakes up holds up one that computes beside it
_LOAD = 2e5  # bytes a second, from which on they are many
_REST = 1.0  # seconds between attempts to write while that fails
_PATIENCE = 10.0  # seconds to wait for the last attempt


def begins_as_record(path: Path) -> bool:
    """Whether a file is empty, or begins as the records do that are written here."""
    with path.open("rb") as file:
        begin = file.read(_ENOUGH)
    return _begins(begin)


def _begins(begin: bytes) -> bool:
    """Of what was cut off as it was written, the first line may be a piece."""
    first, _, rest = begin.strip().partition(b"\n")
    if _BEGIN.match(first):
        return True
    return _CUT.startswith(first) and (not rest or _BEGIN.match(rest) is not None)


def _path(given: Any) -> Path:
    if not isinstance(given, (str, Path)) or not str(given) or "\0" in str(given):
        raise TypeError(f"path = {given!r:.80} must be the name of a file.")
    return Path(given).absolute()


@define(eq=False)
class Jsonl:
    """Appends lines to a file, several at a time if there are that many; a run goes on if that fails.

    What is noted is put in words and written by whoever notes enough of it, and now and then by a thread of its own.
    To wake that up for all of it would take longer, since it waits for the interpreter's lock; so would to gather more.

    Attributes
    ----------
    path
        Of the file; made if it is not there.
    """

    path: Path = field(converter=_path)
    _events: deque[MetricsEvent] = field(factory=deque, init=False)
    _busy: threading.Lock = field(factory=threading.Lock, init=False)
    _text: bytearray = field(factory=bytearray, init=False)
    _written: int = field(default=0, init=False)
    _writer: threading.Thread | None = field(default=None, init=False)
    _leaving: threading.Event = field(factory=threading.Event, init=False)
    _file: int | None = field(default=None, init=False)
    _rest: float = field(default=0.0, init=False)
    _troubled: bool = field(default=False, init=False)
    _run_id: str = field(default="", init=False)

    def __enter__(self) -> Self:
        """Refuse a file that is something else; nothing is written before the run starts."""
        if not os.path.isdir(self.path.parent):
            raise ConfigError(f"The record can't be {str(self.path)!r}: its folder does not exist.")
        with suppress(OSError):  # it is not there, or will be told of when it is written
            if not stat.S_ISREG(os.stat(self.path).st_mode) or not begins_as_record(self.path):
                raise ConfigError(
                    f"{self.path} is there and is no record of runs, so it is left as it is; give the record a file of "
                    "its own, with --record PATH or plugin.jsonl.path."
                )
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            self._leaving.set()
            self._writer.join(_PATIENCE)

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Note a fragment that is done; all else is put in words at once."""
        self._events.append(event)
        if len(self._events) >= _MANY or not isinstance(event, FragmentDone):
            self._work(_ROOM)
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="mbexec-jsonl", daemon=True)
            self._writer.start()

    def _work(self, most: int) -> None:
        """Put in words what was noted, and write it if it is so long; left to a thread that is at it."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._put_in_words()
            if len(self._text) >= most:
                self._write()
        finally:
            self._busy.release()

    def _put_in_words(self) -> None:
        while self._events:
            event = self._events.popleft()
            if isinstance(event, RunStarted):
                self._run_id = event.run_id
            try:
                self._text += line(event, self._run_id)
            except Exception as error:
                self._warn(f"{type(error).__name__}: {error}")

    def _run(self) -> None:
        """Write what comes until the run is left."""
        leaving, pause = False, _PAUSE
        while not leaving:
            before = self._written
            leaving = self._leaving.wait(pause)
            self._work(1)
            pause = _LONGER if self._written - before > _LOAD * pause else _PAUSE
        self._rest = 0.0  # what could not be written then may be now
        self._write()
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)

    def _write(self) -> None:
        """Write what is held, in one piece: others may be writing too."""
        if not self._text or time.monotonic() < self._rest:
            return
        try:
            if self._file is None:
                self._file = self._opened()
            self._append(self._file)
        except OSError as error:
            if error.errno == errno.EBADF:  # somebody has closed it
                self._file = None
            self._rest = time.monotonic() + _REST
            self._warn(error.strerror or str(error))

    def _append(self, file: int) -> None:
        count = os.write(file, self._text)
        self._written += count
        at_end = self._text[count : count + 1] == b"\n"  # of a line: the next one begins with what is left of it
        whole = count if at_end else self._text.rfind(b"\n", 0, count) + 1
        complete = count == len(self._text)
        del self._text[:whole]
        if count > whole:  # a piece of a line is there: whole lines go on below it
            self._text[:0] = b"\n"
        if not complete:
            raise OSError("there was no room for a whole line")

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        there = os.fstat(file)
        if not stat.S_ISREG(there.st_mode) or not _begins(os.pread(file, _ENOUGH, 0)):
            os.close(file)
            raise OSError("by now it is there and is no record of runs")
        if there.st_size and os.pread(file, 1, there.st_size - 1) != b"\n":  # a run was killed as it wrote
            self._text[:0] = b"\n"
        return file

    def _warn(self, why: str) -> None:
        """Once."""
        if not self._troubled:
            self._troubled = True
            with suppress(Exception):  # where logging fails, the run goes on all the same
                import structlog

                structlog.get_logger("mbexec").warning("record_not_written", path=str(self.path), why=why)
