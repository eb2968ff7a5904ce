"""What the results of a trial must be: complete, each its own task's, and to the last bit."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mbexec.core.types import TaskResult
from mbexec.testing.rules import broken
from mbexec.testing.trial import Trial

__all__ = ["check_complete", "check_values"]


def check_complete(trial: Trial, results: list[TaskResult]) -> None:
    """Each task that was pulled, once; and all of them unless the level ended early."""
    if strange := [result for result in results if not isinstance(result, TaskResult)]:
        raise broken(f"gave {strange[0]!r:.80}, which is no TaskResult")
    given = Counter(result.index for result in results)
    wanted = trial.level.pulled if trial.stop.is_set() else set(range(len(trial.plan))) - set(trial.needless)
    if more := [index for index, count in given.items() if count > 1]:
        raise broken(f"gave {given[more[0]]} results for the task {trial.plan[more[0]].label}")
    if foreign := given.keys() - set(trial.level.pulled):
        raise broken(f"gave a result for place {min(foreign)} of the plan, which it did not pull")
    if lost := set(wanted) - given.keys():
        raise broken(f"gave no result for {len(lost)} of {len(wanted)} tasks")


def check_values(trial: Trial, results: list[TaskResult]) -> None:
    """Bit for bit what the tasks give when they are run here."""
    for result in results:
        own = trial.work(trial.plan[result.index])
        if result.error != own.error:
            raise broken(
                f"gave {trial.plan[result.index].label} the error {result.error!r:.200} for {own.error!r:.200}"
            )
        for name, value in own.values.items():
            if np.asarray(result.values.get(name)).tobytes() != np.asarray(value).tobytes():
                _check_owner(trial, result)
                raise broken(
                    f"gave {trial.plan[result.index].label} the {name} {result.values.get(name)!r:.80}, "
                    f"which is not the {value!r:.80} that the task gives when it is run here"
                )


def _check_owner(trial: Trial, result: TaskResult) -> None:
    """Whether it is the result of another task, no two of which give the same energy."""
    for task in trial.plan:
        if task.index != result.index and trial.work(task).values.get("energy") == result.values.get("energy"):
            raise broken(
                f"gave the result of {task.label}, whose index is {task.index}, the index {result.index}, "
                f"which is that of {trial.plan[result.index].label}"
            )
