"""The reporter jsonl: what happens, as lines of JSON in a file that later runs go on with."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import attrs
import numpy as np
import structlog
from attrs import define, field

from mbexec import (
    ConfigError,
    FragmentDone,
    FragmentHeld,
    FragmentStarted,
    LevelDone,
    MetricsEvent,
    RunConfig,
    RunDone,
    RunStarted,
    hookimpl,
)

__all__ = ["Jsonl", "begins_as_record"]

_BEGIN = re.compile(rb'\{"event":"\w+","run_id":"\w*')
_CUT = b'{"event":"run_started","run_id":"'
_ENOUGH = 128  # bytes to know a record by
_LIBRARIES = ("numpy", "qcelemental", "qcmanybody")
_LARGE = re.compile("gradient|hessian")
_PAUSE = 0.1  # seconds between lines
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


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers and arrays of NumPy's as they are, the rest in words."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)


_encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode


def _pairs(told: Mapping[str, Any]) -> str:
    return _encode(told)[1:-1]


@define(eq=False)
class Jsonl:
    """Appends lines to a file, ten times a second if there are that many; a run is not held up if that fails.

    A thread of its own puts them together and writes them: several at once cost a third of what each alone would.

    Attributes
    ----------
    path
        Of the file; made if it is not there.
    """

    path: Path = field(converter=_path)
    _events: SimpleQueue[MetricsEvent | None] = field(factory=SimpleQueue, init=False)
    _writer: threading.Thread | None = field(default=None, init=False)
    _leaving: threading.Event = field(factory=threading.Event, init=False)
    _file: int | None = field(default=None, init=False)
    _held: list[bytes] = field(factory=list, init=False)
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
            self._events.put(None)
            self._writer.join(_PATIENCE)

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Hand it to the thread that writes."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="mbexec-jsonl", daemon=True)
            self._writer.start()
        self._events.put(event)

    def _run(self) -> None:
        """Write what comes until the run is left."""
        batch: list[MetricsEvent | None] = []
        while batch[-1:] != [None]:
            batch = [self._events.get()]
            while not self._events.empty():
                batch.append(self._events.get())
            self._held += self._lines([event for event in batch if event is not None])
            self._write()
            self._leaving.wait(_PAUSE)
        self._rest = 0.0
        self._write()
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)

    def _lines(self, events: Sequence[MetricsEvent]) -> Iterator[bytes]:
        """Of fragments that have ended meanwhile it need not be told that they began."""
        ended = {event.task.index for event in events if isinstance(event, FragmentDone)}
        for event in events:
            if isinstance(event, RunStarted):
                self._run_id = event.run_id
            if isinstance(event, FragmentStarted) and event.task.index in ended:
                continue
            try:
                name, pairs = _told(event)
            except Exception as error:
                self._warn(f"{type(error).__name__}: {error}")
                continue
            if name:
                yield f'{{"event":"{name}","run_id":"{self._run_id}",{pairs}}}\n'.encode()

    def _write(self) -> None:
        """Write what is held, in one piece: others may be writing too."""
        if not self._held or time.monotonic() < self._rest:
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
        text = b"".join(self._held)
        count = os.write(file, text)
        if count == len(text):
            self._held.clear()
            return
        while count >= len(self._held[0]):
            count -= len(self._held.pop(0))
        if count:  # a piece of a line is there: whole lines go on below it
            self._held[0] = b"\n" + self._held[0].lstrip(b"\n")
        raise OSError("there was no room for a whole line")

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        there = os.fstat(file)
        if not stat.S_ISREG(there.st_mode) or not _begins(os.pread(file, _ENOUGH, 0)):
            os.close(file)
            raise OSError("by now it is there and is no record of runs")
        if there.st_size and os.pread(file, 1, there.st_size - 1) != b"\n":  # a run was killed as it wrote
            self._held[0] = b"\n" + self._held[0]
        return file

    def _warn(self, why: str) -> None:
        """Once."""
        if not self._troubled:
            self._troubled = True
            with suppress(Exception):  # where logging fails, the run goes on all the same
                structlog.get_logger("mbexec").warning("record_not_written", path=str(self.path), why=why)


def _told(event: MetricsEvent) -> tuple[str, str]:
    """Its name, and as JSON what there is to tell of it; no name if that is nothing."""
    match event:
        case FragmentDone():
            return "fragment_done", _result(event)
        case FragmentStarted(task=task):
            return "fragment_started", f'"time":{event.time},"index":{task.index},"label":{_encode(task.label)}'
        case FragmentHeld():
            return "fragment_held", _pairs(_first_run(event))
        case RunStarted():
            return "run_started", _pairs(_start(event))
        case LevelDone(level=level):
            return "level_done", _pairs(attrs.asdict(level))
        case RunDone():
            return "run_done", _pairs({"report": event.report.as_dict(), "result": _outcome(event.result)})
    return "", ""


def _start(event: RunStarted) -> dict[str, Any]:
    return {
        "time": time.time(),
        "mbexec": version("mbexec"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "host": socket.gethostname(),
        "executor": event.executor,
        "workers": event.workers,
        "levels": event.levels,
        "store": event.store,
        "input": json.loads(event.plan.spec.serialize("json")),
        "config": _tables(event.config),
    }


def _tables(config: RunConfig) -> dict[str, Any]:
    """The settings as a job file has them, and where each is from."""
    orders = {str(nbody): attrs.asdict(task) for nbody, task in config.task_of.items()}
    return {
        "run": attrs.asdict(config.run),
        "task": attrs.asdict(config.task) | orders,
        "plugin": config.plugin,
        "sources": config.sources,
    }


def _first_run(event: FragmentHeld) -> dict[str, Any]:
    task, result = event.task, event.result
    return {
        "index": task.index,
        "label": task.label,
        "started": event.started,
        "ended": event.ended,
        "wall_time": result.wall_time,
        "worker": result.worker,
        "error": None if result.error is None else attrs.asdict(result.error),
    }


def _result(event: FragmentDone) -> str:
    """Put together by hand, which takes half as long: there may be hundreds of thousands."""
    task, result = event.task, event.result
    energy, error = result.values.get("energy"), result.error
    return (
        f'"index":{task.index},"label":{_encode(task.label)},"mc":{_encode(task.mc)},"frag":{[*task.frag]},'
        f'"bas":{[*task.bas]},"nbody":{task.nbody},"reused":{"true" if event.reused else "false"},'
        f'"energy":{"null" if energy is None else energy},'
        f'"queued":{event.queued},"started":{event.started},"ended":{event.ended},'
        f'"wall_time":{result.wall_time},"cpu_time":{result.cpu_time},'
        f'"lost":{"null" if result.lost is None else result.lost},"worker":{_encode(result.worker)},'
        f'"peak_memory":{result.peak_memory},"error":{"null" if error is None else _encode(attrs.asdict(error))},'
        f'"notes":{_encode(result.notes) if result.notes else "[]"}'
    )


def _outcome(result: Any) -> dict[str, Any]:
    """What came of the run, without arrays of the cluster's size: they are for its result's own file."""
    if result.success:
        further = (result.extras.get("mbexec") or {}).get("properties", {})
        return {"success": True, "properties": _small({**result.properties.model_dump(), **further})}
    error = result.error.model_dump(include={"error_type", "error_message"})
    partial = (result.error.extras or {}).get("partial")
    if isinstance(partial, Mapping):
        error["partial"] = {**partial, "properties": _small(partial.get("properties", {}))}
    return {"success": False, "error": error}


def _small(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if value is not None and not _LARGE.search(key)}
