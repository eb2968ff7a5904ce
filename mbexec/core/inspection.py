"""Looking at what a store has of a job: how far it is, and whether it still comes out the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.choosing import left_out
from mbexec.core.errors import ConfigError
from mbexec.core.loop import Run
from mbexec.core.prepare import Prepared, prepared
from mbexec.core.settings import RunConfig
from mbexec.core.stored import Stored
from mbexec.core.types import Task, TaskResult

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["LevelStatus", "Recomputed", "needed", "recompute", "status"]


@frozen
class LevelStatus:
    """How far a level is.

    Attributes
    ----------
    nbody
        How many fragments are real.
    ntasks
        Fragment calculations that need a result of their own.
    done, failed
        How many of them the store has a result of, and how many an error.
    left_out
        How many need not run, as far as the store's results tell.
    """

    nbody: int
    ntasks: int
    done: int
    failed: int
    left_out: int = 0

    @property
    def to_do(self) -> int:
        """How many are still to run."""
        return self.ntasks - self.done - self.failed - self.left_out


@frozen(eq=False)
class Recomputed:
    """A stored result beside what the same calculation gives now.

    Attributes
    ----------
    task
        What was computed.
    verdict
        "same": to the last bit, each time; "noise": all differences are within the tolerance; "changed": most repeats
        agree on something else than what is stored; "unsteady": they do not, but some differ; "failed": one failed.
    difference
        The largest between any number stored and any repeat's, in atomic units; NaN if there is none.
    said
        Of a repeat that failed, why.
    """

    task: Task
    verdict: str
    difference: float
    said: str = ""


def status(spec: ManyBodyInput, config: RunConfig) -> tuple[LevelStatus, ...]:
    """How far each level of a job is, by what the store has. Nothing runs."""
    with _looked_into(spec, config) as (ready, stored):
        failed = np.zeros(len(ready.plan), dtype=bool)
        done = np.zeros(len(ready.plan), dtype=bool)
        energies = np.full(len(ready.plan), np.nan)
        for task, result in stored.known(ready.plan, np.flatnonzero(ready.plan.runs)):
            (done if result.error is None else failed)[task.index] = True
            energies[task.index] = result.values.get("energy", np.nan)
        needless = _needless(ready, config, energies, done | failed)
        done, failed = done & ~needless, failed & ~needless
        return tuple(
            LevelStatus(
                level.nbody,
                level.ntasks,
                int(done[level.start : level.stop].sum()),
                int(failed[level.start : level.stop].sum()),
                int(needless[level.start : level.stop].sum()),
            )
            for level in ready.plan.levels
        )


def _needless(
    ready: Prepared, config: RunConfig, energies: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """What the planner leaves out; nothing as long as it can't tell."""
    if not known[~ready.plan.undecided].all():
        return np.zeros(len(ready.plan), dtype=bool)
    return left_out(ready.manager, config.run.planner, ready.plan, energies)


def needed(spec: ManyBodyInput, config: RunConfig) -> set[str]:
    """Keys of everything that a job as it stands asks a store for. Nothing runs."""
    with _looked_into(spec, config) as (ready, stored):
        answers = stored.keys.answers()
        tasks = ready.plan.tasks(np.flatnonzero(ready.plan.runs))
        keys = (stored.keys.of(task, *answer) for task in tasks for answer in answers)
        return {key for key in keys if key is not None}


@contextmanager
def _looked_into(spec: ManyBodyInput, config: RunConfig) -> Iterator[tuple[Prepared, Stored]]:
    """A job that is ready to run, and its store, where failures count as known."""
    run = attrs.evolve(config.run, reporters=(), retry_failed=False)
    with prepared(spec, attrs.evolve(config, run=run)) as ready:
        yield ready, _stored(ready)


def _stored(ready: Prepared) -> Stored:
    if ready.stored is None:
        raise ConfigError("There is no store to look into: run.store is false; give its path.")
    return ready.stored


def recompute(
    spec: ManyBodyInput,
    config: RunConfig,
    *,
    sample: int,
    repeat: int,
    tolerance: float,
    stop: threading.Event | None = None,
) -> list[Recomputed]:
    """Compute some of what the store has again, and compare.

    Parameters
    ----------
    spec, config
        The job; its executor runs the fragments.
    sample
        How many results to look at; chance decides which.
    repeat
        How often to compute each.
    tolerance
        Difference that counts as noise, in atomic units.
    stop
        Set from another thread to start nothing new.
    """
    stop = stop or threading.Event()
    run = attrs.evolve(config.run, reporters=(), retry_failed=True)
    with prepared(spec, attrs.evolve(config, run=run)) as ready:
        stored = _sampled(ready, sample)
        anew = attrs.evolve(ready, stored=None)
        found: dict[int, list[TaskResult]] = {index: [] for index in stored}
        for _ in range(repeat):
            with closing(Run(anew, stop).computed(np.array(sorted(stored), dtype=np.int64))) as results:
                for result in results:
                    found[result.index].append(result)
        tasks = {index: ready.plan[index] for index in stored}
    return [_compared(tasks[index], stored[index], found[index], tolerance) for index in sorted(found) if found[index]]


def _sampled(ready: Prepared, sample: int) -> dict[int, TaskResult]:
    """Some of the results that the store has, by place in the plan."""
    order = np.random.default_rng().permutation(np.flatnonzero(ready.plan.runs))
    found: dict[int, TaskResult] = {}
    for task, result in _stored(ready).known(ready.plan, order, own=True):
        found[task.index] = result
        if len(found) == sample:
            break
    return found


def _compared(task: Task, stored: TaskResult, repeats: Sequence[TaskResult], tolerance: float) -> Recomputed:
    """The verdict on a stored result, by a vote of the repeats."""
    failed = [result.error.error_message for result in repeats if result.error is not None]
    if failed:
        return Recomputed(task, "failed", np.nan, failed[0])
    difference = max(_difference(stored, result) for result in repeats)
    if all(_bits(result) == _bits(stored) for result in repeats):
        return Recomputed(task, "same", difference)
    if difference <= tolerance:
        return Recomputed(task, "noise", difference)
    agreed = _majority(repeats)
    changed = agreed is not None and _bits(agreed) != _bits(stored)
    return Recomputed(task, "changed" if changed else "unsteady", difference)


def _majority(repeats: Sequence[TaskResult]) -> TaskResult | None:
    """What more than half of the repeats gave, to the last bit; None if there is no such thing."""
    from mbexec.graph import End, MergeError, MergeStrategy, NodeResult, ParallelExecutor, RunContext  # takes a while

    votes = [NodeResult(result.worker, End(), RunContext(result, execution_id=""), 0.0) for result in repeats]
    try:
        return ParallelExecutor[TaskResult](1).merge_states(votes, MergeStrategy.MAJORITY, key=_bits).state
    except MergeError:
        return None


def _bits(result: TaskResult) -> tuple[Any, ...]:
    return tuple((name, np.asarray(result.values[name]).tobytes()) for name in sorted(result.values))


def _difference(one: TaskResult, other: TaskResult) -> float:
    names = one.values.keys() & other.values.keys()
    return max(float(np.abs(np.asarray(one.values[name]) - other.values[name]).max()) for name in names)
