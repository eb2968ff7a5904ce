"""What happens during a run, as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from mbexec.core.metrics import LevelReport, RunReport
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
    "LevelStarted",
    "MetricsEvent",
    "RunDone",
    "RunStarted",
    "TasksLeftOut",
]


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
    programs: Mapping[str, str] = field(factory=dict)


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
