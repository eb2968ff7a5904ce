"""What happens during a run, as events; and what it cost, as a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from mbexec.core.settings import RunConfig
from mbexec.core.types import Plan, Task, TaskResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyResult

__all__ = [
    "FragmentDone",
    "FragmentHeld",
    "FragmentStarted",
    "LevelDone",
    "LevelReport",
    "LevelStarted",
    "MetricsEvent",
    "RunDone",
    "RunReport",
    "RunStarted",
    "TasksLeftOut",
]


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


@frozen(eq=False)
class RunStarted:
    """The plan stands and the first fragment is about to run.

    Attributes
    ----------
    run_id
        A name for the run.
    executor, workers
        Who runs the fragments, and how many at once.
    levels
        (nbody, ntasks) of each level, without duplicates.
    plan, config
        What is to be computed, and the settings.
    costs : (ntask,) float array
        What each fragment is expected to cost, by its place in the plan, in units that compare within a model
        chemistry; 0 for duplicates, which don't run.
    store
        Where results are kept and what is there already, in words; empty without a store.
    programs
        The version of each program, by name in lower case, with that of its harness; of those that tell.
    """

    run_id: str
    executor: str
    workers: int
    levels: tuple[tuple[int, int], ...]
    plan: Plan
    config: RunConfig
    costs: NDArray[np.float64]
    store: str = ""
    programs: Mapping[str, str] = attrs.field(factory=dict)


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
class FragmentStarted:
    """A fragment has begun and has not ended a moment later; nothing is told of shorter ones.

    Executors that can't tell what runs say nothing.

    Attributes
    ----------
    task
        What is computed.
    time
        When it began, as far as the executor can tell, seconds since the epoch.
    """

    task: Task
    time: float


@frozen
class FragmentHeld:
    """A fragment ended with a random error; it is run a second time, alone, when the others are done.

    Attributes
    ----------
    task, result
        What was to be computed, and what came of it.
    started, ended
        When it began and ended, by this process's clock: seconds since the epoch.
    """

    task: Task
    result: TaskResult
    started: float
    ended: float


@frozen
class FragmentDone:
    """A fragment's result is there.

    Attributes
    ----------
    task, result
        What was to be computed, and what came of it, errors included.
    reused
        Whether a store gave it.
    queued, started, ended
        When the executor took it, and when it began and ended, by this process's clock: seconds since the epoch. Of one
        that a store gave, all 0.
    """

    task: Task
    result: TaskResult
    reused: bool
    queued: float = 0.0
    started: float = 0.0
    ended: float = 0.0


@frozen(eq=False)
class TasksLeftOut:
    """The planner has said which of its plan's undecided tasks need not run; there may be none.

    Attributes
    ----------
    indices : (n,) int array
        Their places in the plan.
    levels
        (nbody, how many) of each level that has some.
    """

    indices: NDArray[np.int64]
    levels: tuple[tuple[int, int], ...]


@frozen
class LevelDone:
    """The last fragment of a level ended.

    Attributes
    ----------
    level
        What it cost.
    """

    level: LevelReport


@frozen(eq=False)
class RunDone:
    """The result is merged.

    Attributes
    ----------
    report
        What the run cost.
    result
        What came of it.
    stopped
        Whether the run was told to start nothing new, as Ctrl-C does.
    """

    report: RunReport
    result: ManyBodyResult | FailedOperation
    stopped: bool = False


MetricsEvent = (
    RunStarted | LevelStarted | FragmentStarted | FragmentHeld | FragmentDone | TasksLeftOut | LevelDone | RunDone
)
