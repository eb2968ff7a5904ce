"""Rules for executors: tasks, their results, and what is around them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import unittest
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mbexec.testing.results import check_complete, check_values
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Trial, declared_workers, plugged
from mbexec.testing.waiting import opened_when_idle

__all__ = [
    "a_failing_task_is_a_result",
    "a_level_may_shrink",
    "an_empty_level_gives_nothing",
    "an_executor_serves_many_levels",
    "each_task_gives_one_result",
    "no_more_tasks_at_once_than_workers",
    "one_thread_pulls",
    "results_belong_to_their_tasks",
    "short_tasks_do_not_wait_for_long_ones",
    "surroundings_are_left_as_they_were",
    "tasks_are_pulled_as_needed",
    "the_same_bits_as_serial",
]

WINDOW = 512
_STALLED = 10.0
_EACH_ONCE = "yield each one's result exactly once"


@rule("executor", _EACH_ONCE, "Pull tasks to the end of the level, and yield what each gave once.")
def each_task_gives_one_result(make: Make, gate: Path) -> None:
    """Each task of a level gives one result: none is lost, none comes twice."""
    trial = Trial(["plain"] * 30)
    with plugged(make) as executor:
        check_complete(trial, trial.run(executor))


@rule("executor", _EACH_ONCE, "Yield the TaskResult that the task itself gave, unchanged; its index says whose it is.")
def results_belong_to_their_tasks(make: Make, gate: Path) -> None:
    """A result has the index of the task that gave it, also when tasks end in another order than they began."""
    trial = Trial(["slow" if place % 4 == 0 else "plain" for place in range(24)], {"slow": {"sleep": 0.01}})
    with plugged(make) as executor:
        results = trial.run(executor)
    check_complete(trial, results)
    check_values(trial, results)


@rule(
    "executor",
    "A task that fails gives a result with `error` set",
    "Yield it like any other, and go on; work(task) and run_chunk never raise for a task that fails.",
)
def a_failing_task_is_a_result(make: Make, gate: Path) -> None:
    """A task that fails gives a result with the program's type and words, and the others run."""
    labels = ["failing" if place in (1, 7) else "plain" for place in range(16)]
    trial = Trial(labels, {"failing": {"fail": "convergence_error"}})
    with plugged(make) as executor:
        results = trial.run(executor)
    check_complete(trial, results)
    check_values(trial, results)


@rule(
    "executor",
    "A level may be empty",
    "Iterate over the level, or catch the StopIteration of next(level), and return when nothing runs any more.",
)
def an_empty_level_gives_nothing(make: Make, gate: Path) -> None:
    """A level without tasks gives no results, and ends; so does one that is stopped before it begins."""
    for trial in (Trial([]), Trial(["plain"] * 8)):
        trial.stop.set()
        with plugged(make) as executor:
            if results := trial.run(executor):
                raise broken(f"gave {len(results)} results for a level without tasks, such as {results[0]!r:.80}")


@rule(
    "executor",
    "may have fewer tasks than its length said",
    "Iterate over the level to its end, and return when nothing runs any more; its length is for display.",
)
def a_level_may_shrink(make: Make, gate: Path) -> None:
    """Tasks that turn out to be needless are left out as the level is iterated: some, the last ones, or all of them."""
    with plugged(make) as executor:
        for needless in ({*range(0, 40, 3), *range(30, 40)}, range(40)):
            trial = Trial(["plain"] * 40, needless=needless)
            results = trial.run(executor)
            check_complete(trial, results)
            check_values(trial, results)


@rule(
    "executor",
    "in any order, as it finishes",
    "Wait for whichever task ends first, yield its result, and give its worker the next task at once.",
)
def short_tasks_do_not_wait_for_long_ones(make: Make, gate: Path) -> None:
    """While one task takes long, the results of at least half of the others come."""
    _needs_two_workers(make)
    trial = Trial(["long"] + ["plain"] * 15, {"long": {"wait": str(gate)}})
    early = 0
    with plugged(make) as executor, opened_when_idle(gate, _STALLED), closing(trial.submit(executor)) as results:
        for result in results:
            if trial.label(result.index) == "long":
                break
            early += 1
            if early >= 8:
                gate.unlink(missing_ok=True)
        for _ in results:
            pass
    if early < 8:
        raise broken(f"gave {early} of 15 results of short tasks while a long one ran on another worker")


@rule(
    "executor",
    "No more than ``work.workers`` tasks run at once",
    "Make a pool of work.workers workers, not of a size of its own.",
)
def no_more_tasks_at_once_than_workers(make: Make, gate: Path) -> None:
    """At no time do more tasks run than there are workers."""
    trial = Trial(["slow"] * 16, {"slow": {"sleep": 0.02}})
    with plugged(make) as executor:
        results = trial.run(executor)
    times = sorted([(r.started, 1) for r in results] + [(r.ended, -1) for r in results])
    most = int(np.cumsum([step for _, step in times]).max())
    if most > trial.work.workers:
        raise broken(f"ran {most} tasks at once where work.workers is {trial.work.workers}")


@rule(
    "executor",
    f"at most {WINDOW} ahead for each worker",
    "Pull with itertools.islice(level, n), and pull more as results come; list(level) pulls everything.",
)
def tasks_are_pulled_as_needed(make: Make, gate: Path) -> None:
    """However long the level, only a window of tasks is pulled before their results are given."""
    trial = Trial(["plain"] * 4096)
    bound, given, most, end = WINDOW * trial.workers, 0, 0, time.monotonic() + 5
    with plugged(make) as executor, closing(trial.submit(executor)) as results:
        for _ in results:
            most = max(most, len(trial.level.pulled) - given)
            given += 1
            if most > bound or given > bound + 100 or time.monotonic() > end:
                trial.stop.set()
    if most > bound:
        raise broken(f"had pulled {most} tasks without giving their results, with {trial.work.workers} workers")


@rule(
    "executor",
    "only in the thread that consumes the results",
    "Pull in the generator itself, and hand the tasks over to threads or a loop of its own.",
)
def one_thread_pulls(make: Make, gate: Path) -> None:
    """Tasks are pulled in the thread that consumes the results."""
    trial = Trial(["plain"] * 16)
    with plugged(make) as executor:
        trial.run(executor)
    if trial.level.threads - {threading.get_ident()}:
        raise broken("pulled tasks in a thread of its own")


@rule(
    "executor",
    "An executor serves level after level, also with other work",
    "Keep nothing of a level or its work on the executor; what a worker knows it tells by NeedContext.",
)
def an_executor_serves_many_levels(make: Make, gate: Path) -> None:
    """One executor runs several levels, also with another work in between, and the next executor does as well."""
    first, second = Trial(["plain"] * 8), Trial(["plain"] * 8, driver="gradient")
    for trials in ([first, first, second, first], [second]):
        with plugged(make) as executor:
            for trial in trials:
                results = trial.run(executor)
                check_complete(trial, results)
                check_values(trial, results)


@rule(
    "executor",
    "Leave environment variables, working directory, signal handlers and multiprocessing's start method as they were",
    "Use multiprocessing.get_context(...) and arguments in place of global settings, or put back what was there.",
    here=True,
)
def surroundings_are_left_as_they_were(make: Make, gate: Path) -> None:
    """After a level everything that the process shares is as it was."""
    before = _surroundings()
    with plugged(make) as executor:
        Trial(["plain"] * 4).run(executor)
    after = _surroundings()
    if changed := [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]:
        name = min(changed)
        raise broken(f"left {name} as {after.get(name)!r} where it was {before.get(name)!r}")


def _surroundings() -> dict[str, Any]:
    handlers = {
        f"the handler of {s.name}": signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    }
    usual = multiprocessing.get_all_start_methods()[0]
    return {
        **{f"the variable {name}": value for name, value in os.environ.items()},
        **handlers,
        "the working directory": os.getcwd(),
        "multiprocessing's start method": multiprocessing.get_start_method(allow_none=True) or usual,
    }


@rule(
    "executor",
    _EACH_ONCE,
    "Yield the TaskResult that the task itself gave; nothing may be rounded or summed on the way.",
)
def the_same_bits_as_serial(make: Make, gate: Path) -> None:
    """With 1 to 8 workers the numbers are those of the tasks run here one after the other, to the last bit."""
    for workers in (8, 3, 2, 1):  # so that what is kept from level to level need not be started four times
        trial = Trial(["plain"] * 24, driver="gradient", workers=workers)
        with plugged(make) as executor:
            results = trial.run(executor)
        check_complete(trial, results)
        check_values(trial, results)


def _needs_two_workers(make: Make) -> None:
    most = declared_workers(make(), 2)
    if most < 2:
        raise unittest.SkipTest(f"it runs one task at a time (max_workers = {most})")
