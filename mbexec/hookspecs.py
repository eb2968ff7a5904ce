"""The hooks: everything that a plugin can be asked to do.

A plugin is a class whose methods are marked with :data:`hookimpl`. The name under which its distribution lists it
in the entry-point group ``mbexec`` is its name everywhere. Hooks run in the parent process only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyResult

    from mbexec.core.events import MetricsEvent
    from mbexec.core.settings import RunConfig
    from mbexec.core.types import Level, Plan, Task, TaskResult
    from mbexec.core.work import Work

__all__ = [
    "build_tasks",
    "choose_tasks",
    "hookimpl",
    "hookspec",
    "keep_result",
    "merge_results",
    "recall_results",
    "report_metrics",
    "submit_level",
]

hookspec = pluggy.HookspecMarker("mbexec")
hookimpl = pluggy.HookimplMarker("mbexec")


@hookspec(firstresult=True)
def build_tasks(spec: ManyBodyInput, config: RunConfig) -> Plan:
    """Say which fragment calculations the input needs. A planner's first half; called once, before anything runs.

    The plan has each task once, in the order of nbody. The same input gives the same plan.

    Parameters
    ----------
    spec
        The many-body input, valid QCSchema v2.
    config
        All settings of the run.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If the expansion asked for can't be.
    """


@hookspec(firstresult=True)
def submit_level(level: Level, work: Work) -> Iterator[TaskResult]:
    """Run the tasks of a level and yield each one's result exactly once, in any order, as it finishes. An executor.

    Pull tasks from `level` as workers become free, at most 512 ahead for each worker, and only in the thread that
    consumes the results. No more than ``work.workers`` tasks run at once. A level may be empty, may have fewer tasks
    than its length said, and may end early. When it ends early, finish what was pulled and yield it.
    A task that takes several calculations, of which some have not begun by then, may have ``level.put_back(task)``
    instead.

    A task that fails gives a result with `error` set; an exception means that the executor itself is broken. When
    the returned iterator is closed, cancel what can be cancelled and return. Let ``KeyboardInterrupt`` pass.

    An executor serves level after level, also with other work. Leave environment variables, working directory, signal
    handlers and multiprocessing's start method as they were, see to it that no process outlives the run's, and import
    nothing that its distribution does not require.

    Say what the executor is by attributes of its class; each is False unless it is there:

    isolates_processes
        Tasks run in processes other than the run's. A worker that dies is never waited for. ``run_chunk`` limits the
        threads of numerical libraries there; in the run's own process they are left as they are.
    survives_worker_death
        Moreover, only the task that a dead worker ran gets an error.
    can_kill
        A task that takes longer than ``work.settings(task).timeout`` seconds is killed, with all that it started, and
        gets an error; closing the iterator kills what runs.
    elsewhere
        Tasks run on other machines, of which this one's cores and memory say nothing.
    max_workers
        A number: the most workers that it can use; without it, as many as are wanted.
    alternatives
        Model chemistries that ``work(task, n)`` runs a task with in place of the given one, n from 1 up: tables with
        some of the keys program, method, basis and keywords.
    start
        A static method for what takes time in starting. It is called before the input is read, returns at once, and
        may be called in vain.

    Parameters
    ----------
    level
        Iterate it for the tasks.
    work
        ``work(task)`` runs one here. For other processes send ``run_chunk(work.key, tasks)``, and ``work.blob`` with
        it when the answer is ``NeedContext``. ``work.workers`` is how many may run at once.

    Returns
    -------
    iterator of TaskResult
    """


@hookspec(firstresult=True)
def choose_tasks(plan: Plan, energies: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which of a plan's undecided tasks need not run after all. For planners whose plans have such tasks.

    Called once, when every other task of the plan has a result and before the first undecided one runs; not at all if
    the run is stopped before. What is left out gives no result: `merge_results` must do without. The same energies
    give the same choice, so that a run that was interrupted goes on with it.

    Parameters
    ----------
    plan
        What `build_tasks` returned.
    energies
        (ntask,) float array, E_h: of each task, in the plan's order; NaN of those that failed and of undecided ones.

    Returns
    -------
    (ntask,) bool array
        True of the undecided tasks that are left out.
    """


@hookspec(firstresult=True)
def merge_results(plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
    """Put the results together. A planner's second half; called once, before the first fragment runs.

    The order of arrival does not change a bit of the result. Take what you need of each and let it go: there may be
    hundreds of thousands.

    Parameters
    ----------
    plan
        What `build_tasks` returned.
    results
        Each task's result, as they arrive and in any order; a single pass. Consume it to the end. Those of a run that
        was stopped are not complete, and none comes of what `choose_tasks` leaves out.

    Returns
    -------
    ManyBodyResult or FailedOperation
        The latter where failed fragments leave the result unknown.
    """


@hookspec
def report_metrics(event: MetricsEvent) -> None:
    """Take note of something that happened. A reporter; one that raises is logged and left out of the run.

    Leave the event as it is: others are given it too. Let classes of event pass that you don't know. A run may break
    off, and then there is no ``RunDone``. Calls come one at a time, those for ``FragmentStarted`` from another thread.

    Parameters
    ----------
    event
        One of ``RunStarted``, ``LevelStarted``, ``FragmentStarted``, ``FragmentHeld``, ``FragmentDone``,
        ``TasksLeftOut``, ``LevelDone``, ``RunDone``.
    """


@hookspec(firstresult=True)
def recall_results(tasks: Sequence[Task], keys: Sequence[str]) -> Iterable[TaskResult]:
    """Give the results that are already known: before a level is submitted, and again as each task is about to run.

    What was kept comes back to the last bit, also from another instance of the store. A task may be asked for again,
    with another key under which an answer to it may have been kept.

    Parameters
    ----------
    tasks
        A batch of tasks about to run, each once.
    keys
        Of each task, under which its result would have been kept. Two calculations have the same key only if whatever
        decides their numbers is the same.

    Returns
    -------
    iterable of TaskResult
        For those of the tasks whose key is known, in any order.
    """


@hookspec
def keep_result(task: Task, key: str, result: TaskResult) -> None:
    """Keep a result, the moment it arrives. A store's second half; one that raises stops the run.

    Parameters
    ----------
    task
        What was run.
    key
        What to keep it under, in place of what was kept there before. A result that is no error gives way to no error.
    result
        What came of it, errors included.
    """
