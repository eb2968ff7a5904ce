"""Conformance kits: whether a plugin keeps the contract of its hooks. They need no test runner."""

from __future__ import annotations

from mbexec.testing import executors, processes
from mbexec.testing.rules import PATIENCE, Make, Rule, check

__all__ = ["EXECUTOR_RULES", "check_executor"]

EXECUTOR_RULES: tuple[Rule, ...] = (
    processes.declarations_hold,
    executors.each_task_gives_one_result,
    executors.results_belong_to_their_tasks,
    executors.the_same_bits_as_serial,
    executors.a_failing_task_is_a_result,
    executors.an_empty_level_gives_nothing,
    executors.tasks_are_pulled_as_needed,
    executors.one_thread_pulls,
    executors.no_more_tasks_at_once_than_workers,
    executors.short_tasks_do_not_wait_for_long_ones,
    executors.draining_finishes_what_was_pulled,
    executors.closing_cancels,
    executors.an_interrupt_passes,
    executors.an_executor_serves_many_levels,
    executors.surroundings_are_left_as_they_were,
    processes.a_dead_worker_is_not_waited_for,
    processes.a_dead_worker_costs_its_task_alone,
    processes.a_hanging_task_is_killed,
    processes.closing_kills,
    processes.no_process_is_left,
    processes.imports_are_declared,
)


def check_executor(make_executor: Make, *, patience: float = PATIENCE) -> None:
    """Check."""
    check(EXECUTOR_RULES, make_executor, patience=patience, say=print)
