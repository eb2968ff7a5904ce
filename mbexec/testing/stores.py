"""Rules for stores: what they keep and give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mbexec.core.keys import Keys
from mbexec.core.types import Task, TaskError, TaskResult
from mbexec.testing.rules import broken, rule
from mbexec.testing.trial import Plugged, Trial, plugged

__all__ = [
    "MakeStore",
    "a_success_stays",
    "errors_are_kept",
    "keys_decide",
    "several_instances_share_a_place",
    "unknown_tasks_give_nothing",
    "what_was_kept_comes_back",
]

MakeStore = Callable[[Path], Any]
_BACK = "What was kept comes back to the last bit, also from another instance of the store"


@contextmanager
def _opened(make: MakeStore, gate: Path) -> Iterator[Plugged]:
    """A store in its folder."""
    folder = gate.with_name("store")
    folder.mkdir(exist_ok=True)
    with plugged(partial(make, folder)) as store:
        yield store


def _key(trial: Trial, task: Task) -> str:
    """What a run would keep a success under."""
    mcs = trial.plan.expansion.mcs
    return Keys(trial.work.context, {"toy-potential": "1.0"}, trial.driver, mcs).own(task, TaskResult(task.index))


def _recalled(store: Plugged, trial: Trial, tasks: list[Task]) -> dict[int, TaskResult]:
    keys = [_key(trial, task) for task in tasks]
    found = list(store.hook.recall_results(tasks=tasks, keys=keys) or ())
    if strange := [each for each in found if not isinstance(each, TaskResult)]:
        raise broken(f"gave {strange[0]!r:.80}, which is no TaskResult")
    if {result.index for result in found} - {task.index for task in tasks}:
        raise broken("gave a result for a task that it was not asked")
    if len({result.index for result in found}) < len(found):
        raise broken("gave two results for one task")
    return {result.index: result for result in found}


def _keep(store: Plugged, trial: Trial, tasks: list[Task]) -> None:
    for task in tasks:
        store.hook.keep_result(task=task, key=_key(trial, task), result=_result(trial, task))


def _result(trial: Trial, task: Task) -> TaskResult:
    """As from a worker, with a body as some runs want it."""
    return attrs.evolve(trial.work(task), body=b'{"schema_name": "toy", "text": "\xc3\xa9"}')


def _check_same(trial: Trial, tasks: list[Task], found: dict[int, TaskResult]) -> None:
    for task in tasks:
        if task.index not in found:
            raise broken(f"did not give back the result of {task.label} that it had kept")
        own, back = _result(trial, task), found[task.index]
        if back.error is not None or set(back.values) != set(own.values):
            raise broken(f"gave back {back!r:.200} for {own!r:.200}")
        for name, value in own.values.items():
            given = back.values[name]
            if type(given) is not type(value) or np.shape(given) != np.shape(value) or _bits(given) != _bits(value):
                raise broken(f"gave back the {name} {given!r:.80} for {value!r:.80}")
        if back.body != own.body:
            raise broken(f"gave back the body {back.body!r:.80} for {own.body!r:.80}")


def _bits(value: Any) -> bytes:
    return np.asarray(value).tobytes()


@rule(
    "store", _BACK, "Write numbers in full (float.hex, repr or bytes), arrays with their shape, and the body as bytes."
)
def what_was_kept_comes_back(make: MakeStore, gate: Path) -> None:
    """What one store kept another gives back, bit for bit: energies, gradients, Hessians and bodies."""
    for driver in ("energy", "gradient", "hessian"):
        trial = Trial(["plain"] * 6, driver=driver)
        tasks = list(trial.plan)
        with _opened(make, gate) as store:
            _keep(store, trial, tasks)
        with _opened(make, gate) as store:
            _check_same(trial, tasks, _recalled(store, trial, tasks))


@rule("store", _BACK, "Give nothing for a task that was not kept.")
def unknown_tasks_give_nothing(make: MakeStore, gate: Path) -> None:
    """For tasks that were not kept nothing is given, and only what was asked for otherwise."""
    trial = Trial(["plain"] * 6)
    tasks = list(trial.plan)
    with _opened(make, gate) as store:
        if _recalled(store, trial, tasks):
            raise broken("gave results before it had kept any")
        _keep(store, trial, tasks[:3])
    with _opened(make, gate) as store:
        if set(found := _recalled(store, trial, tasks[2:])) != {tasks[2].index}:
            raise broken(f"gave {len(found)} results for four tasks of which it had kept one")


@rule(
    "store",
    "What came of it, errors included",
    "Keep the error with the result, or leave it out; a task that failed has no numbers.",
)
def errors_are_kept(make: MakeStore, gate: Path) -> None:
    """An error is taken like any result; it is given back as that error, or not at all."""
    trial = Trial(["plain", "failing", "plain"], {"failing": {"fail": "random_error"}})
    tasks = list(trial.plan)
    with _opened(make, gate) as store:
        _keep(store, trial, tasks)
    with _opened(make, gate) as store:
        found = _recalled(store, trial, tasks)
    for task in tasks:
        error = _result(trial, task).error
        if error is not None and task.index in found and found[task.index].error != error:
            raise broken(f"gave back {found[task.index]!r:.200} for a task that had failed with {error!r}")
    _check_same(trial, [task for task in tasks if task.mc == "plain"], found)


@rule("store", _BACK, "Add to what is there; let one writer at a time in, and look again when asked.")
def several_instances_share_a_place(make: MakeStore, gate: Path) -> None:
    """Two stores that are open at once in one place both keep, and a third gives back what either did."""
    trial = Trial(["plain"] * 8)
    tasks = list(trial.plan)
    with _opened(make, gate) as first, _opened(make, gate) as second:
        for one, other in zip(tasks[::2], tasks[1::2], strict=True):
            _keep(first, trial, [one])
            _keep(second, trial, [other])
    with _opened(make, gate) as third:
        _check_same(trial, tasks, _recalled(third, trial, tasks))


@rule(
    "store",
    "For those of the tasks whose key is known",
    "Find results by their key alone, and give each the index of the task that it is asked for.",
)
def keys_decide(make: MakeStore, gate: Path) -> None:
    """Under another key nothing is given for the same task; under its own key a result is given to another task."""
    trial = Trial(["plain"] * 6)
    tasks = list(trial.plan)
    others = {
        "another model chemistry": Trial(["plain"] * 6, {"plain": {"rmin": {"Ar": 7.5}}}),
        "another driver": Trial(["plain"] * 6, driver="gradient"),
    }
    with _opened(make, gate) as store:
        _keep(store, trial, tasks)
        for what, other in others.items():
            if _recalled(store, other, list(other.plan)):
                raise broken(f"gave results for {what} than that of which it had kept them")
        keys = [_key(trial, task) for task in tasks]
        moved = [attrs.evolve(task, index=task.index + 1, mc="other") for task in tasks]
        found = {result.index: result for result in store.hook.recall_results(tasks=moved, keys=keys) or ()}
    lost = [task for task in moved if task.index not in found]
    if lost or len(found) != len(tasks):
        raise broken(f"gave {len(found)} results for {len(tasks)} tasks with new labels and indices under known keys")
    _check_same(trial, tasks, {index - 1: result for index, result in found.items()})


@rule(
    "store",
    "A result that is no error gives way to no error",
    "Look at what is kept under the key before an error takes its place; let a success take the place of anything.",
)
def a_success_stays(make: MakeStore, gate: Path) -> None:
    """An error does not take the place of a success; a success takes that of an error, and of an older success."""
    trial = Trial(["plain"] * 3)
    tasks = list(trial.plan)
    error = TaskResult(0, error=TaskError("random_error", "The machine went down."))
    old = TaskResult(0, {"energy": 1.0})
    steps: list[list[TaskResult | None]] = [[None, error], [error, None], [old, None]]  # None: the task's own
    for task, results in zip(tasks, steps, strict=True):
        for result in results:
            with _opened(make, gate) as store:
                given = _result(trial, task) if result is None else attrs.evolve(result, index=task.index)
                store.hook.keep_result(task=task, key=_key(trial, task), result=given)
    with _opened(make, gate) as store:
        _check_same(trial, tasks, _recalled(store, trial, tasks))
