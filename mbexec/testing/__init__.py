"""Conformance kits: whether a plugin keeps the contract of its hooks. They need no test runner.

The rules of a kit are plain functions. Each takes what makes the plugin, tries it, and raises AssertionError with a
sentence that says what the plugin did, what its contract says and how to mend it; it raises unittest.SkipTest, which
test runners know, where it is not for this plugin.
"""

from __future__ import annotations

from typing import Any

from mbexec.testing import executors, planners, processes, reporters, stopping, stores
from mbexec.testing.rules import PATIENCE, Make, Rule, check
from mbexec.testing.stores import MakeStore

__all__ = [
    "EXECUTOR_RULES",
    "PLANNER_RULES",
    "REPORTER_RULES",
    "STORE_RULES",
    "check_executor",
    "check_planner",
    "check_reporter",
    "check_store",
]

EXECUTOR_RULES: tuple[Rule, ...] = (
    processes.declarations_hold,
    executors.each_task_gives_one_result,
    executors.results_belong_to_their_tasks,
    executors.the_same_bits_as_serial,
    executors.a_failing_task_is_a_result,
    executors.an_empty_level_gives_nothing,
    executors.a_level_may_shrink,
    executors.tasks_are_pulled_as_needed,
    executors.one_thread_pulls,
    executors.no_more_tasks_at_once_than_workers,
    executors.short_tasks_do_not_wait_for_long_ones,
    stopping.draining_finishes_what_was_pulled,
    stopping.closing_cancels,
    stopping.an_interrupt_passes,
    executors.an_executor_serves_many_levels,
    executors.surroundings_are_left_as_they_were,
    processes.a_dead_worker_is_not_waited_for,
    processes.a_dead_worker_costs_its_task_alone,
    processes.a_hanging_task_is_killed,
    processes.closing_kills,
    processes.no_process_is_left,
    processes.imports_are_declared,
)
PLANNER_RULES: tuple[Rule, ...] = (
    planners.a_plan_is_made_of_arrays,
    planners.tasks_are_planned_once,
    planners.the_same_input_gives_the_same_plan,
    planners.the_same_energies_give_the_same_choice,
    planners.the_order_of_arrival_does_not_matter,
    planners.results_are_let_go,
    planners.missing_results_are_a_failure,
)
REPORTER_RULES: tuple[Rule, ...] = (
    reporters.every_event_is_taken,
    reporters.events_are_left_as_they_are,
    reporters.a_run_may_break_off,
)
STORE_RULES: tuple[Rule, ...] = (
    stores.what_was_kept_comes_back,
    stores.unknown_tasks_give_nothing,
    stores.errors_are_kept,
    stores.several_instances_share_a_place,
    stores.keys_decide,
    stores.a_success_stays,
)


def check_executor(make_executor: Make, *, patience: float = PATIENCE) -> None:
    """Try an executor by all rules, and print how each went.

    Parameters
    ----------
    make_executor
        Makes the executor: its class, or a function without arguments. Some rules call it in a process of their own.
    patience
        Seconds that a rule may take before the executor is said to hang.

    Raises
    ------
    AssertionError
        With a sentence for each rule that was broken, once all have been tried.
    """
    check(EXECUTOR_RULES, make_executor, patience=patience)


def check_planner(make_planner: Make, spec: Any = None, *, patience: float = PATIENCE) -> None:
    """Try a planner by all rules; see :func:`check_executor`.

    Parameters
    ----------
    make_planner
        Makes the planner.
    spec
        What to plan, as for :func:`mbexec.run`, each of its fragment calculations a quick one that counts; four argon
        atoms if left out.
    patience
        Seconds that a rule may take.
    """
    check(PLANNER_RULES, make_planner, patience=patience, spec=spec)


def check_reporter(make_reporter: Make, *, patience: float = PATIENCE) -> None:
    """Try a reporter by all rules; see :func:`check_executor`.

    Parameters
    ----------
    make_reporter
        Makes the reporter.
    patience
        Seconds that a rule may take.
    """
    check(REPORTER_RULES, make_reporter, patience=patience)


def check_store(make_store: MakeStore, *, patience: float = PATIENCE) -> None:
    """Try a store by all rules; see :func:`check_executor`.

    Parameters
    ----------
    make_store
        Makes a store that keeps its results in a folder, which it is given as a ``pathlib.Path``.
    patience
        Seconds that a rule may take.
    """
    check(STORE_RULES, make_store, patience=patience)
