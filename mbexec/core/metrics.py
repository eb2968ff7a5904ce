"""What a run cost, as a report."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen

__all__ = ["LevelReport", "RunReport"]


@frozen
class LevelReport:
    """What the fragments of one nbody cost; times are of those that ran, not of those that a store gave.

    Attributes
    ----------
    nbody
        How many fragments are real.
    ntasks
        Fragment calculations that need a result of their own: those of the plan but for duplicates.
    executed, reused, failed
        How many ran, how many a store gave, and how many of those that ran failed.
    wall_time, cpu_time
        Sums, s.
    shortest, typical, longest
        Least, median and greatest wall time, s; None if none ran.
    imbalance
        By how much the busiest worker's time exceeds the mean of all workers, as a fraction of the mean; None if none
        ran.
    duplicates
        Further calculations of the plan, which are the same as others up to a rigid motion; see :class:`Symmetry`.
    left_out
        How many of the plan's calculations the planner left out, once it had seen the others.
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
    imbalance: float | None = None
    duplicates: int = 0
    left_out: int = 0


@frozen
class RunReport:
    """What a run cost, and how well it used its workers.

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
    serial_time
        What the fragments that ran would have taken one after the other with the machine to themselves, s: the sum of
        their wall times without what they waited for a processor or, in one process, for each other. None if none ran
        or the executor didn't measure that.
    critical_path
        The least that the run could have taken with as many workers as fragments, s: the longest fragment, or the sum
        of the longest of each submission where one waits for another.
    bound
        The least that it could have taken with its workers, s, by the critical path and by their number.
    startup
        From the first submission to the start of the first fragment, s; None if none ran.
    finishing
        From the end of the last fragment to the merged result, s; None if none ran.
    idle
        Time that workers had no fragment between these two, summed over workers, s; None if none ran.
    imbalance
        By how much the busiest worker's time exceeds the mean, as a fraction of the mean; None if none ran.
    retried, retry_time
        How many fragments were run a second time, and the wall time of their first runs, s, which is in no other sum.
    worker_memory, memory
        The most that any worker's process, or a child process of it, and that this process have held so far, bytes.
        The former is None if it wasn't measured.
    bytes_moved
        To workers and from them, where the executor counts that.
    """

    run_id: str
    executor: str
    workers: int
    started: float
    wall_time: float
    levels: tuple[LevelReport, ...]
    serial_time: float | None = None
    critical_path: float | None = None
    bound: float | None = None
    startup: float | None = None
    finishing: float | None = None
    idle: float | None = None
    imbalance: float | None = None
    retried: int = 0
    retry_time: float = 0.0
    worker_memory: int | None = None
    memory: int | None = None
    bytes_moved: tuple[int, int] | None = None

    @property
    def ntasks(self) -> int:
        """Fragment calculations that need a result of their own."""
        return sum(level.ntasks for level in self.levels)

    @property
    def duplicates(self) -> int:
        """Further calculations of the plan that these stand for."""
        return sum(level.duplicates for level in self.levels)

    @property
    def executed(self) -> int:
        """Fragments that ran."""
        return sum(level.executed for level in self.levels)

    @property
    def reused(self) -> int:
        """Fragments that a store gave."""
        return sum(level.reused for level in self.levels)

    @property
    def failed(self) -> int:
        """Fragments that failed."""
        return sum(level.failed for level in self.levels)

    @property
    def left_out(self) -> int:
        """Fragment calculations that the planner left out."""
        return sum(level.left_out for level in self.levels)

    @property
    def fragment_time(self) -> float:
        """Sum of the wall times of the fragments that ran, s."""
        return sum(level.wall_time for level in self.levels)

    @property
    def contention(self) -> float | None:
        """How many times longer the fragments took than they would have alone."""
        return self.fragment_time / self.serial_time if self.serial_time else None

    @property
    def speedup(self) -> float | None:
        """`serial_time` over `wall_time`."""
        return self.serial_time / self.wall_time if self.serial_time else None

    @property
    def efficiency(self) -> float | None:
        """Speedup per worker."""
        return self.speedup / self.workers if self.speedup is not None else None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, what follows from it included; described by ``run-report.schema.json`` in docs."""
        counts = ("ntasks", "duplicates", "executed", "reused", "failed", "left_out")
        derived = (*counts, "fragment_time", "contention", "speedup", "efficiency")
        return attrs.asdict(self) | {name: getattr(self, name) for name in derived}
