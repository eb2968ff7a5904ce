"""The trace reporter: which worker ran what, and when, for Perfetto and Chrome's chrome://tracing."""

from __future__ import annotations

import json
import os
import time
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import IO, Any, Self

from attrs import define, field

from mbexec import (
    ConfigError,
    FragmentDone,
    FragmentHeld,
    MetricsEvent,
    RunDone,
    RunStarted,
    Task,
    TaskResult,
    hookimpl,
)

__all__ = ["Trace"]

_BEGINNING = b'[\n{"name": "process_name"'
_RUN = 1  # process number of the run itself


def _path(given: Any) -> Path:
    if not isinstance(given, (str, Path)) or not str(given):
        raise TypeError(f"path = {given!r:.80} must be text.")
    return Path(os.path.abspath(given))


@define(eq=False)
class _Lane:
    """When a worker was at work, in microseconds since the run began: pieces that don't overlap, in order."""

    process: int
    number: int
    starts: array[float] = field(factory=lambda: array("d"))
    ends: array[float] = field(factory=lambda: array("d"))

    def put(self, start: float, end: float) -> tuple[float, float]:
        """Put in one more piece, cut to the room that there is: clocks are not that exact, nor their corrections."""
        place = bisect_right(self.starts, start)
        start = max(start, self.ends[place - 1]) if place else max(start, 0.0)
        end = min(end, self.starts[place]) if place < len(self.starts) else end
        end = max(start, end)
        self.starts.insert(place, start)
        self.ends.insert(place, end)
        return start, end


@define(eq=False)
class Trace:
    """Writes the times of each fragment to a file in the trace-event format, a lane for each worker.

    An event is a line, written at once, so that a run that is killed leaves a file that opens too: the format's list
    may lack its closing bracket.

    Attributes
    ----------
    path
        Of the file; that of an earlier trace is replaced when the run starts, and no other.
    """

    path: Path = field(default=Path("trace.json"), converter=_path)
    _file: IO[str] | None = field(default=None, init=False)
    _is_new: bool = field(default=False, init=False)
    _begun: bool = field(default=False, init=False)
    _separator: str = field(default="", init=False)
    _began: float = field(default=0.0, init=False)
    _lanes: dict[str, _Lane] = field(factory=dict, init=False)
    _hosts: dict[str, int] = field(factory=dict, init=False)

    def __enter__(self) -> Self:
        """Find out before the run whether the file can be written; what is in it stays until the run starts."""
        try:
            if self.path.is_file() and self.path.stat().st_size and not _is_trace(self.path):
                raise ConfigError(
                    f"plugin.trace.path: {str(self.path)!r} is there already and no trace; give another name."
                )
            self._is_new = not self.path.exists()
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ConfigError(f"The trace can't be written to {self.path}: {error.strerror}.") from error
        return self

    def __exit__(self, *_: object) -> None:
        """End the list; of a run that never started, leave nothing."""
        if self._file is None:
            return
        with self._file as file:
            if self._begun:
                file.write("\n]\n")
        self._file = None
        if self._is_new and not self._begun:
            self.path.unlink(missing_ok=True)

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Write what has a beginning and an end."""
        match event:
            case RunStarted():
                self._start(event)
            case FragmentHeld(task=task, result=result, started=started, ended=ended):
                self._piece(task, result, started, ended, "run again later")
            case FragmentDone(reused=False, task=task, result=result, started=started, ended=ended):
                self._piece(task, result, started, ended, "failed" if result.error is not None else "fragment")
            case RunDone(report=report):
                told = {name: getattr(report, name) for name in ("executed", "reused", "failed", "left_out", "retried")}
                self._write("run", _RUN, 1, 0.0, round(1e6 * report.wall_time, 3), cat="run", args=told)

    def _start(self, event: RunStarted) -> None:
        self._began = time.time()
        self._lanes.clear()
        if self._file is not None:
            if self.path.is_file():  # a device has nothing to take away
                self._file.truncate(0)
            self._file.write("[\n")
            self._begun = True
        self._name("process", _RUN, 0, f"mbexec {event.run_id}: {event.executor}, workers: {event.workers}")
        self._name("thread", _RUN, 1, "run")

    def _piece(self, task: Task, result: TaskResult, started: float, ended: float, kind: str) -> None:
        lane = self._lanes.get(result.worker) or self._new_lane(result.worker)
        start, end = lane.put(*(round(1e6 * (moment - self._began), 3) for moment in (started, ended)))
        told: dict[str, Any] = {"label": task.label, "nbody": task.nbody, "cpu": result.cpu_time}
        told |= {"energy": result.values["energy"]} if "energy" in result.values else {}
        told |= {"lost": result.lost} if result.lost is not None else {}
        told |= (
            {"error": f"{result.error.error_type}: {result.error.error_message}"} if result.error is not None else {}
        )
        color = {} if result.error is None else {"cname": "terrible"}
        name = "-".join(map(str, task.frag)) + ("" if task.bas == task.frag else "@" + "-".join(map(str, task.bas)))
        self._write(name, lane.process, lane.number, start, end, cat=kind, args=told, **color)

    def _new_lane(self, worker: str) -> _Lane:
        host, _, where = worker.partition(":")
        if host not in self._hosts:
            self._hosts[host] = _RUN + 1 + len(self._hosts)
            self._name("process", self._hosts[host], 0, f"workers on {host or 'an unknown host'}")
        lane = self._lanes[worker] = _Lane(self._hosts[host], len(self._lanes) + 1)
        self._name("thread", lane.process, lane.number, f"worker {lane.number} ({where})")
        return lane

    def _name(self, what: str, process: int, thread: int, name: str) -> None:
        """Name a process or a thread, and give it its place among the others."""
        place = thread if what == "thread" else process
        for key, value in (("name", name), ("sort_index", place)):
            about = {"name": f"{what}_{key}", "ph": "M", "pid": process, "tid": thread, "args": {key: value}}
            self._line(about)

    def _write(self, name: str, process: int, thread: int, start: float, end: float, **more: Any) -> None:
        times = {"ts": start, "dur": round(end - start, 3)}
        self._line({"name": name, "ph": "X", "pid": process, "tid": thread, **times, **more})

    def _line(self, event: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(f"{self._separator}{json.dumps(event)}")
            self._separator = ",\n"


def _is_trace(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) in (_BEGINNING, b"[\n", b"[\n\n]\n")
