"""The store of a run, as the run sees it: what it knows of the tasks, and what it is to keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from mbexec.core import telling
from mbexec.core.blame import blamed
from mbexec.core.check import ResultCheck
from mbexec.core.errors import PluginError
from mbexec.core.keys import Keys
from mbexec.core.types import Plan, Task, TaskResult

__all__ = ["Stored"]

_BATCH = 1000


@define(eq=False)
class Stored:
    """Asks a store for results and gives it those that are new.

    Attributes
    ----------
    name
        Of the plugin.
    plugin
        The plugin itself.
    hook
        Where its hooks are called.
    keys
        Of the run's tasks.
    check
        Looks at what it gives.
    bodies
        Whether a result is of use only with its body.
    failures
        Whether a fragment that failed in an earlier run counts as known.
    """

    name: str
    plugin: object
    hook: Any
    keys: Keys
    check: ResultCheck
    bodies: bool
    failures: bool
    _nameless: set[str] = field(factory=set, init=False)

    def describe(self) -> str:
        """Where it is and what it holds, if it can say; else its name."""
        with blamed("store", self.name):
            return str(getattr(self.plugin, "describe", lambda: self.name)())

    def known(self, plan: Plan, order: NDArray[np.int64], *, own: bool = False) -> Iterator[tuple[Task, TaskResult]]:
        """The tasks at these places of the plan that need not run, with their results; asked for a batch at a time.

        With `own` only what runs with the same driver have kept.
        """
        for start in range(0, len(order), _BATCH):
            tasks = plan.tasks(order[start : start + _BATCH])
            yield from self._found({task.index: task for task in tasks if self._is_kept(task)}, own)

    def now(self, task: Task) -> TaskResult | None:
        """The result of a task, if the store has it by now: another run may have brought it."""
        asked = {task.index: task} if self._is_kept(task) else {}
        step, driver = self.keys.answers()[0]
        return next((result for _, result in self._asked(asked, step, driver)), None)

    def keep(self, task: Task, result: TaskResult) -> None:
        """Give the store a new result."""
        if self._is_kept(task):
            with blamed("store", self.name):
                self.hook.keep_result(task=task, key=self.keys.own(task, result), result=result)

    def _is_kept(self, task: Task) -> bool:
        """Results of programs without a version are not: the next one's would be taken for them."""
        program = self.keys.program(task)
        if program in self.keys.versions:
            return True
        if program not in self._nameless:
            self._nameless.add(program)
            telling.warning("results_not_kept", program=program, why="it tells no version")
        return False

    def _found(self, tasks: dict[int, Task], own: bool) -> Iterator[tuple[Task, TaskResult]]:
        """What answers the tasks; a failure only where nothing else does."""
        failed = {}
        for step, driver in self.keys.answers():
            if own and driver != self.keys.driver:
                break
            for task, result in self._asked(tasks, step, driver):
                if result.error is not None:
                    failed[task.index] = task, result
                    continue
                del tasks[task.index]
                yield task, result
        yield from (found for index, found in failed.items() if index in tasks)

    def _asked(self, tasks: Mapping[int, Task], step: int, driver: str) -> list[tuple[Task, TaskResult]]:
        """What the store has under that step and driver, as far as it answers the tasks."""
        keys = {index: self.keys.of(task, step, driver) for index, task in tasks.items()}
        asked = {index: tasks[index] for index, key in keys.items() if key is not None}
        if not asked:
            return []
        with blamed("store", self.name):
            given: Iterable[TaskResult] = (
                self.hook.recall_results(tasks=list(asked.values()), keys=[keys[index] for index in asked]) or ()
            )
            given = list(given)
        found = []
        for result in given:
            if not isinstance(result, TaskResult) or result.index not in asked:
                raise PluginError(
                    f"The store {self.name!r} gave {result!r:.80}, which is a second result, "
                    "one for a task that it was not asked, or none at all."
                )
            task = asked.pop(result.index)
            if (answer := self._answer(task, attrs.evolve(result, step=step), driver)) is not None:
                found.append((task, answer))
        return found

    def _answer(self, task: Task, result: TaskResult, driver: str) -> TaskResult | None:
        """What a kept result says of a task; None if it is not what is asked for."""
        own = driver == self.keys.driver
        if result.error is not None:  # of less than may be tried now, such as of a shorter ladder, it says nothing
            return result if own and self.failures and result.step == self.keys.last(task) else None
        if self.bodies and (result.body is None or not own):
            return None
        if isinstance(result.values, Mapping):
            if any(name not in result.values for name in self.check.wanted):
                return None
            if not own:
                values = {name: result.values[name] for name in self.check.needed}
                result = attrs.evolve(result, values=values, body=None)
        if problem := self.check.problem(task, result):
            raise PluginError(f"The store {self.name!r} gave {task.label} a result with {problem}.")
        return result
