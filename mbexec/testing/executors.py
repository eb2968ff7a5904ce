"""Rules for executors: tasks, their results, and what happens when a level ends early or something goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import unittest
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mbexec.core.types import TaskResult
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Trial, declared_workers, plugged
from mbexec.testing.waiting import until

__all__ = [
    "a_failing_task_is_a_result",
    "a_level_may_shrink",
    "an_empty_level_gives_nothing",
    "an_executor_serves_many_levels",
    "an_interrupt_passes",
    "closing_cancels",
    "draining_finishes_what_was_pulled",
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
_SETTLED = 1.0
_EACH_ONCE = "yield each one's result exactly once"


def _check_complete(trial: Trial, results: list[TaskResult]) -> None:
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


def _check_values(trial: Trial, results: list[TaskResult]) -> None:
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


@rule("executor", _EACH_ONCE, "Pull tasks to the end of the level, and yield what each gave once.")
def each_task_gives_one_result(make: Make, gate: Path) -> None:
    """Each task of a level gives one result: none is lost, none comes twice."""
    trial = Trial(["plain"] * 30)
    with plugged(make) as executor:
        _check_complete(trial, trial.run(executor))


@rule("executor", _EACH_ONCE, "Yield the TaskResult that the task itself gave, unchanged; its index says whose it is.")
def results_belong_to_their_tasks(make: Make, gate: Path) -> None:
    """A result has the index of the task that gave it, also when tasks end in another order than they began."""
    trial = Trial(["slow" if place % 4 == 0 else "plain" for place in range(24)], {"slow": {"sleep": 0.01}})
    with plugged(make) as executor:
        results = trial.run(executor)
    _check_complete(trial, results)
    _check_values(trial, results)


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
    _check_complete(trial, results)
    _check_values(trial, results)


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
            _check_complete(trial, results)
            _check_values(trial, results)


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
    with plugged(make) as executor, _opened_when_idle(gate, _STALLED), closing(trial.submit(executor)) as results:
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


@contextmanager
def _opened_when_idle(gate: Path, seconds: float) -> Iterator[None]:
    """Let toys go when nothing has been done for some time, and at the end of the block at the latest."""
    left = threading.Event()

    def opening() -> None:
        until(left.is_set, seconds)
        gate.unlink(missing_ok=True)

    opener = threading.Thread(target=opening, daemon=True)
    opener.start()
    try:
        yield
    finally:
        left.set()
        opener.join()


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
    "When it ends early, finish what was pulled and yield it",
    "When the level gives nothing more, go on until everything that was pulled has given its result.",
)
def draining_finishes_what_was_pulled(make: Make, gate: Path) -> None:
    """When a run is stopped, every task that was pulled still gives its result."""
    trial = Trial(["slow"] * 40, {"slow": {"sleep": 0.01}})
    got = []
    with plugged(make) as executor, closing(trial.submit(executor)) as results:
        for result in results:
            got.append(result)
            trial.stop.set()
    _check_complete(trial, got)
    _check_values(trial, got)


@rule(
    "executor",
    "When the returned iterator is closed, cancel what can be cancelled and return",
    "Cancel what waits for a worker in a `finally` around the loop that yields.",
)
def closing_cancels(make: Make, gate: Path) -> None:
    """When the iterator is closed, no task begins any more, but for one a worker that may have been on its way."""
    own = [gate.with_name(f"gate-{number}") for number in range(21)]
    for each in own:
        each.symlink_to(gate)
    toys = {each.name: {"log": f"{each}.log", "wait": str(each)} for each in own}
    trial = Trial(list(toys), toys)
    with plugged(make) as executor:
        results = trial.submit(executor)
        with _first_let_go(gate):
            next(results)
        running = min(trial.work.workers, len(trial.level.pulled) - 1)
        until(lambda: len(_begun(gate)) >= 1 + running, 2 * _SETTLED)
        before = len(_begun(gate))
        with _opened_when_idle(gate, _SETTLED):
            results.close()
        until(lambda: len(_begun(gate)) > before + trial.work.workers, _SETTLED)
    if (begun := len(_begun(gate))) > before + trial.work.workers:
        raise broken(f"began {begun - before} tasks after its iterator was closed")


def _begun(gate: Path) -> list[Path]:
    """The gates of their own at which toys have begun to wait, by their logs."""
    return [log.with_suffix("") for log in gate.parent.glob("gate-*.log")]


@contextmanager
def _first_let_go(gate: Path) -> Iterator[None]:
    """Let one toy go that has begun, whichever it is: executors may begin in any order."""
    left = threading.Event()

    def letting_go() -> None:
        while not (begun := _begun(gate)) and not left.wait(0.01):
            pass
        for each in begun[:1]:
            each.unlink(missing_ok=True)

    opener = threading.Thread(target=letting_go, daemon=True)
    opener.start()
    try:
        yield
    finally:
        left.set()
        opener.join()


@rule(
    "executor",
    "Let ``KeyboardInterrupt`` pass",
    "Catch Exception, not BaseException, and clean up in `finally`.",
    here=True,
)
def an_interrupt_passes(make: Make, gate: Path) -> None:
    """Ctrl-C while a task runs comes out of the iterator as KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        raise unittest.SkipTest("interrupts reach the main thread only, and this is another")
    trial = Trial(["interrupting"] + ["plain"] * 7, {"interrupting": {"interrupt": os.getpid()}})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with plugged(make) as executor:
            trial.run(executor)
            time.sleep(0.2)  # the interrupt may still be on its way
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGINT, before)
    raise broken("went on after an interrupt")


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
                _check_complete(trial, results)
                _check_values(trial, results)


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
    for workers in (1, 2, 3, 8):
        trial = Trial(["plain"] * 24, driver="gradient", workers=workers)
        with plugged(make) as executor:
            results = trial.run(executor)
        _check_complete(trial, results)
        _check_values(trial, results)


def _needs_two_workers(make: Make) -> None:
    most = declared_workers(make(), 2)
    if most < 2:
        raise unittest.SkipTest(f"it runs one task at a time (max_workers = {most})")
