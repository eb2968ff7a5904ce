"""What happens during a run, as events; and what it cost, as a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from attrs import define, field, frozen

from mbexec.core.types import Plan, Task, TaskResult

__all__ = [
    "FragmentDone",
    "LevelDone",
    "LevelReport",
    "LevelStarted",
    "MetricsEvent",
    "Recorder",
    "RunDone",
    "RunReport",
    "RunStarted",
]


@frozen
class LevelReport:
    """What the fragments of one nbody cost.

    Attributes
    ----------
    nbody
        How many fragments are real.
    ntasks
        Fragment calculations in the plan.
    executed, reused, failed
        How many ran, how many a store gave, and how many of those that ran failed.
    wall_time, cpu_time
        Sums over those that ran, s.
    shortest, typical, longest
        Least, median and greatest wall time of those that ran, s; None if none ran.
    """

    nbody: int
    ntasks: int
    executed: int
    reused: int
    failed: int
    wall_time: float
    cpu_time: float
    shortest: float | None
    typical: float | None
    longest: float | None


@frozen
class RunReport:
    """What a run cost.

    Attributes
    ----------
    run_id
        A name for the run.
    executor, workers
        Who ran the fragments, and how many at once.
    started
        Seconds since the epoch.
    wall_time
        From the first submission to the merged result, s.
    levels
        By nbody.
    """

    run_id: str
    executor: str
    workers: int
    started: float
    wall_time: float
    levels: tuple[LevelReport, ...]

    @property
    def ntasks(self) -> int:
        """Fragment calculations in the plan."""
        return sum(level.ntasks for level in self.levels)

    @property
    def failed(self) -> int:
        """Fragments that failed."""
        return sum(level.failed for level in self.levels)


@frozen
class RunStarted:
    """The plan stands and the first fragment is about to run.

    Attributes
    ----------
    run_id
        A name for the run.
    executor, workers
        Who runs the fragments, and how many at once.
    levels
        (nbody, ntasks) of each level.
    store
        Where results are kept and what is there already, in words; empty without a store.
    """

    run_id: str
    executor: str
    workers: int
    levels: tuple[tuple[int, int], ...]
    store: str = ""


@frozen
class LevelStarted:
    """The first fragment of a level ended; levels that don't wait for each other overlap.

    Attributes
    ----------
    nbody
        How many fragments are real.
    ntasks
        Fragment calculations of the level.
    """

    nbody: int
    ntasks: int


@frozen
class FragmentDone:
    """A fragment's result is there.

    Attributes
    ----------
    task, result
        What was to be computed, and what came of it, errors included.
    reused
        Whether a store gave it.
    """

    task: Task
    result: TaskResult
    reused: bool


@frozen
class LevelDone:
    """The last fragment of a level ended.

    Attributes
    ----------
    level
        What it cost.
    """

    level: LevelReport


@frozen
class RunDone:
    """The result is merged.

    Attributes
    ----------
    report
        What the run cost.
    """

    report: RunReport


MetricsEvent = RunStarted | LevelStarted | FragmentDone | LevelDone | RunDone


@define(eq=False)
class _Tally:
    ntasks: int
    reused: int = 0
    failed: int = 0
    wall: list[float] = field(factory=list)
    cpu: float = 0.0

    def report(self, nbody: int) -> LevelReport:
        times = (min(self.wall), median(self.wall), max(self.wall)) if self.wall else (None, None, None)
        return LevelReport(
            nbody, self.ntasks, len(self.wall), self.reused, self.failed, sum(self.wall), self.cpu, *times
        )


@define(eq=False)
class Recorder:
    """Counts results as they arrive and says which events that makes.

    Parameters
    ----------
    plan
        What is to run.
    run_id, executor, workers
        For the report.
    """

    plan: Plan
    run_id: str
    executor: str
    workers: int
    started: float = field(factory=time.time)
    _clock: float = field(factory=time.perf_counter)
    _levels: dict[int, _Tally] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._levels = {level.nbody: _Tally(len(level)) for level in self.plan.levels}

    def begin(self, store: str = "") -> RunStarted:
        """The run's first event; `store` says where results are kept."""
        levels = tuple((nbody, tally.ntasks) for nbody, tally in self._levels.items())
        return RunStarted(self.run_id, self.executor, self.workers, levels, store)

    def record(self, task: Task, result: TaskResult, reused: bool) -> Sequence[MetricsEvent]:
        """Count a result; the events that it makes."""
        tally = self._levels[task.nbody]
        events: list[MetricsEvent] = []
        if not tally.wall and not tally.reused:
            events.append(LevelStarted(task.nbody, tally.ntasks))
        if reused:
            tally.reused += 1
        else:
            tally.wall.append(result.wall_time)
            tally.cpu += result.cpu_time
        tally.failed += result.error is not None
        events.append(FragmentDone(task, result, reused))
        if len(tally.wall) + tally.reused == tally.ntasks:
            events.append(LevelDone(tally.report(task.nbody)))
        return events

    def report(self) -> RunReport:
        """What the run cost so far."""
        levels = tuple(tally.report(nbody) for nbody, tally in self._levels.items())
        wall = time.perf_counter() - self._clock
        return RunReport(self.run_id, self.executor, self.workers, self.started, wall, levels)
