"""Counts what happens during a run, and says which events that makes."""

from __future__ import annotations

import socket
import time
from array import array
from collections.abc import Sequence
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from mbexec.core.cost import costs
from mbexec.core.events import (
    FragmentDone,
    FragmentHeld,
    LevelDone,
    LevelStarted,
    MetricsEvent,
    RunStarted,
    TasksLeftOut,
)
from mbexec.core.meter import memory
from mbexec.core.metrics import LevelReport, RunReport
from mbexec.core.settings import RunConfig
from mbexec.core.types import Plan, Task, TaskResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["HERE", "Recorder"]

HERE = socket.gethostname()


@define(eq=False)
class _Clock:
    """A worker's clock against ours: no fragment began before it was taken, or ended after its result was here."""

    least: float = -float("inf")
    most: float = float("inf")

    def offset(self, queued: float, result: TaskResult, arrived: float) -> float:
        """What to add to its times, s: as little as goes together with all that is known."""
        self.least = max(self.least, queued - result.started)
        self.most = min(self.most, arrived - result.ended)
        if self.least > self.most:  # clocks drift
            return (self.least + self.most) / 2
        return min(max(0.0, self.least), self.most)


@define(eq=False)
class _Load:
    """Busy time by worker, s."""

    by_worker: dict[str, float] = field(factory=dict)

    def add(self, worker: str, seconds: float) -> None:
        """A worker was busy for so long."""
        self.by_worker[worker] = self.by_worker.get(worker, 0.0) + seconds

    def imbalance(self, workers: int) -> float | None:
        """By how much the most exceeds the mean over so many workers, or as many as took part if those are more.

        Workers that were replaced during the run count as several.
        """
        total = sum(self.by_worker.values())
        if not total:
            return None
        return max(self.by_worker.values()) * max(workers, len(self.by_worker)) / total - 1


@define(eq=False)
class _Stage:
    """Fragments that were submitted together: how many may run at once, their longest, their sum, times alone, s."""

    workers: int
    longest: float = 0.0
    total: float = 0.0

    @property
    def bound(self) -> float:
        """The least that they could have taken, s."""
        return max(self.longest, self.total / self.workers)


@define(eq=False)
class _Tally:
    """What became of the fragments of one nbody so far."""

    ntasks: int
    duplicates: int
    reused: int = 0
    failed: int = 0
    left_out: int = 0
    walls: array[float] = field(factory=lambda: array("d"))
    cpu: float = 0.0
    load: _Load = field(factory=_Load)

    @property
    def done(self) -> int:
        """How many have a result."""
        return len(self.walls) + self.reused

    def report(self, nbody: int, workers: int) -> LevelReport:
        """The same with sums."""
        walls = self.walls
        return LevelReport(
            nbody=nbody,
            ntasks=self.ntasks,
            duplicates=self.duplicates,
            executed=len(walls),
            reused=self.reused,
            failed=self.failed,
            wall_time=sum(walls),
            cpu_time=self.cpu,
            shortest=min(walls) if walls else None,
            typical=median(walls) if walls else None,
            longest=max(walls) if walls else None,
            imbalance=self.load.imbalance(workers),
            left_out=self.left_out,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.done + self.left_out == self.ntasks


@define(eq=False)
class Recorder:
    """Counts results as they arrive and says which events that makes.

    Parameters
    ----------
    plan, config
        What is to run, and how.
    run_id
        For the report.
    workers
        How many fragments may run at once.
    """

    plan: Plan
    config: RunConfig
    run_id: str
    workers: int
    started: float = field(factory=time.time, init=False)
    _clock: float = field(factory=time.perf_counter, init=False)
    _levels: dict[int, _Tally] = field(init=False)
    _clocks: dict[str, _Clock] = field(factory=dict, init=False)
    _stages: list[_Stage] = field(factory=list, init=False)
    _load: _Load = field(factory=_Load, init=False)
    _measured: bool = field(default=True, init=False)
    _span: tuple[float, float] = field(default=(float("inf"), 0.0), init=False)
    _retried: int = field(default=0, init=False)
    _retry_time: float = field(default=0.0, init=False)
    _memory: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._levels = {level.nbody: _Tally(level.ntasks, level.duplicates) for level in self.plan.levels}

    def begin(self, store: str = "", programs: Mapping[str, str] = MappingProxyType({})) -> RunStarted:
        """The run's first event; `store` says where results are kept, `programs` which versions there are."""
        levels = tuple((nbody, tally.ntasks) for nbody, tally in self._levels.items())
        expected = np.where(self.plan.runs, costs(self.plan), 0.0)
        expected.flags.writeable = False
        return RunStarted(
            self.run_id,
            self.config.run.executor,
            self.workers,
            levels,
            self.plan,
            self.config,
            expected,
            store,
            dict(programs),
        )

    def submit(self, workers: int) -> None:
        """What arrives from now on was submitted together, to so many workers."""
        self._stages.append(_Stage(workers))

    def hold(self, task: Task, result: TaskResult, queued: float) -> FragmentHeld:
        """The event that a first result makes which is not taken, since the fragment is run a second time."""
        offset = self._offset(result, queued)
        return FragmentHeld(task, result, result.started + offset, result.ended + offset)

    def retry(self, result: TaskResult) -> None:
        """Count the first result of a fragment that has been run a second time."""
        self._retried += 1
        self._retry_time += result.wall_time

    def reuse(self, task: Task, result: TaskResult) -> Sequence[MetricsEvent]:
        """Count a result that a store gave; the events that it makes."""
        tally = self._levels[task.nbody]
        tally.reused += 1
        return self._events(task, tally, FragmentDone(task, result, reused=True))

    def record(self, task: Task, result: TaskResult, queued: float) -> Sequence[MetricsEvent]:
        """Count a result that was computed; the events that it makes."""
        tally = self._levels[task.nbody]
        offset = self._offset(result, queued)
        done = FragmentDone(task, result, False, queued, result.started + offset, result.ended + offset)
        tally.walls.append(result.wall_time)
        tally.cpu += result.cpu_time
        tally.load.add(result.worker, result.wall_time)
        self._count(done, result)
        return self._events(task, tally, done)

    def leave_out(self, indices: NDArray[np.int64]) -> Sequence[MetricsEvent]:
        """Count tasks that need not run after all; the events that it makes."""
        bodies, counts = np.unique(self.plan.expansion.nbody[indices], return_counts=True)
        levels = tuple(zip(bodies.tolist(), counts.tolist(), strict=True))
        events: list[MetricsEvent] = [TasksLeftOut(indices, levels)]
        for nbody, count in levels:
            self._levels[nbody].left_out = count
            if self._levels[nbody].ended:
                events.append(LevelDone(self._levels[nbody].report(nbody, self.workers)))
        return events

    def _offset(self, result: TaskResult, queued: float) -> float:
        host = result.worker.partition(":")[0]
        if not host or host == HERE:
            return 0.0
        return self._clocks.setdefault(host, _Clock()).offset(queued, result, time.time())

    def _count(self, done: FragmentDone, result: TaskResult) -> None:
        self._load.add(result.worker, result.wall_time)
        self._span = min(self._span[0], done.started), max(self._span[1], done.ended)
        self._memory = max(self._memory, result.peak_memory)
        if result.lost is None and result.error is None:  # of a killed one nobody knows; serial would kill it, too
            self._measured = False
        alone = max(0.0, result.wall_time - (result.lost or 0.0))
        stage = self._stages[-1]
        stage.total += alone
        stage.longest = max(stage.longest, alone)

    def _events(self, task: Task, tally: _Tally, done: FragmentDone) -> Sequence[MetricsEvent]:
        events: list[MetricsEvent] = [LevelStarted(task.nbody, tally.ntasks)] if tally.done == 1 else []
        tally.failed += done.result.error is not None
        events.append(done)
        if tally.ended:
            events.append(LevelDone(tally.report(task.nbody, self.workers)))
        return events

    def report(self, bytes_moved: tuple[int, int] | None = None) -> RunReport:
        """What the run cost so far."""
        now = time.time()
        times: dict[str, float | None] = {}
        if self._span[1]:
            first, last = self._span
            busy = sum(self._load.by_worker.values())
            times = {
                "startup": first - self.started,
                "finishing": now - last,
                "idle": self.workers * (last - first) - busy,
                "imbalance": self._load.imbalance(self.workers),
            }
            if self._measured:
                times["serial_time"] = _sum(stage.total for stage in self._stages)
                times["critical_path"] = _sum(stage.longest for stage in self._stages)
                times["bound"] = _sum(stage.bound for stage in self._stages)
        return RunReport(
            self.run_id,
            self.config.run.executor,
            self.workers,
            self.started,
            time.perf_counter() - self._clock,
            tuple(tally.report(nbody, self.workers) for nbody, tally in self._levels.items()),
            retried=self._retried,
            retry_time=self._retry_time,
            worker_memory=self._memory or None,
            memory=memory(),
            bytes_moved=bytes_moved,
            **times,
        )


def _sum(values: Iterable[float]) -> float:
    return float(sum(values))
