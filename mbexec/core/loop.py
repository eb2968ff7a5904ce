"""One run: what the executor gives goes to the merger, seen by store and reporters as it passes."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import structlog
from attrs import define, field
from numpy.typing import NDArray

from mbexec.core.check import ResultCheck
from mbexec.core.errors import ExecutorError, MbexecError, PluginError
from mbexec.core.manager import reporters
from mbexec.core.metrics import MetricsEvent, Recorder, RunDone, RunReport
from mbexec.core.schedule import submissions
from mbexec.core.settings import RunConfig
from mbexec.core.types import Level, Plan, Task, TaskResult
from mbexec.core.work import Work

if TYPE_CHECKING:
    import pluggy
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyResult

__all__ = ["Run", "blamed", "entered"]

_BATCH = 1000


@contextmanager
def blamed(role: str, name: str | None) -> Iterator[None]:
    """Let what a plugin raises be a PluginError that names it; what mbexec raises passes."""
    try:
        yield
    except MbexecError:
        raise
    except Exception as error:
        raise PluginError(f"The {role} {name!r} broke: {type(error).__name__}: {error}") from error


@contextmanager
def entered(name: str, plugin: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a plugin and leave it, whatever happens: its leaving neither hides an error nor loses a result."""
    with blamed("plugin", name):
        plugin.__enter__()
    try:
        yield
    finally:
        try:
            plugin.__exit__(*sys.exc_info())
        except Exception as error:
            structlog.get_logger("mbexec").warning("plugin_not_left", plugin=name, error=repr(error))


@define(eq=False)
class Run:
    """One run: results on their way from the executor to the merger, seen by store and reporters as they pass."""

    plan: Plan
    config: RunConfig
    manager: pluggy.PluginManager
    work: Work
    stop: threading.Event
    _recorder: Recorder = field(init=False)
    _reporters: dict[str, Callable[..., Any]] = field(init=False)
    _seen: NDArray[np.bool_] = field(init=False)
    _energies: NDArray[np.float64] = field(init=False)
    _check: ResultCheck = field(init=False)

    def __attrs_post_init__(self) -> None:
        spec = self.plan.spec
        sizes = [len(atoms) for atoms in spec.molecule.fragments]
        self._check = ResultCheck(spec.specification.driver.value, sizes, self.plan.properties)
        self._recorder = Recorder(self.plan, uuid.uuid4().hex[:12], self.config.run.executor, self.work.workers)
        self._reporters = reporters(self.manager)
        self._seen = np.zeros(len(self.plan), dtype=bool)
        self._energies = np.full(len(self.plan), np.nan)

    def run(self) -> tuple[ManyBodyResult | FailedOperation, RunReport, NDArray[np.float64]]:
        """Submit everything and merge what comes: the result, what it cost, and the energy of each task."""
        self._report(self._recorder.begin())
        result = self._merged()
        report = self._recorder.report()
        self._report(RunDone(report))
        return result, report, self._energies

    def _merged(self) -> ManyBodyResult | FailedOperation:
        from qcelemental.models.v2 import FailedOperation
        from qcmanybody.models.v2 import ManyBodyResult

        name = self.config.run.planner
        with blamed("planner", name), closing(self._results()) as results:
            result = self.manager.hook.merge_results(plan=self.plan, results=results)
        if not isinstance(result, (ManyBodyResult, FailedOperation)):
            raise PluginError(
                f"The planner {name!r} gave {result!r:.80} as the result; "
                "merge_results must return a ManyBodyResult or a FailedOperation."
            )
        left = len(self.plan) - int(self._seen.sum())
        if left and not self.stop.is_set():
            raise PluginError(
                f"The planner {name!r} gave a result when {left} of {len(self.plan)} tasks had given none; "
                "merge_results must consume its results to the end."
            )
        return result

    def _results(self) -> Generator[TaskResult, None, None]:
        for order in submissions(self.plan, self.config.run.schedule):
            yield from self._recalled(order)
            level = Level(self.plan, order[~self._seen[order]], self.stop)
            with closing(self._submitted(level)) as submitted:
                for result in submitted if len(level) else ():
                    yield self._kept(level, result)
            if lost := level.unfinished():
                raise ExecutorError(f"The executor {self.config.run.executor!r} gave no result for {lost[0].label}.")

    def _recalled(self, order: NDArray[np.int64]) -> Iterator[TaskResult]:
        """What the store knows, asked for a batch at a time."""
        if self.config.run.store is None:
            return
        for start in range(0, len(order), _BATCH):
            tasks = {index: self.plan[index] for index in order[start : start + _BATCH].tolist()}
            with blamed("store", self.config.run.store):
                known: Iterable[TaskResult] = self.manager.hook.recall_results(tasks=list(tasks.values())) or ()
                known = list(known)
            for result in known:
                if not isinstance(result, TaskResult) or result.index not in tasks:
                    raise PluginError(
                        f"The store {self.config.run.store!r} gave {result!r:.80}, which is a second result, "
                        "one for a task that it was not asked, or none at all."
                    )
                task = tasks.pop(result.index)
                if problem := self._check.problem(task, result):
                    raise PluginError(f"The store {self.config.run.store!r} gave {task.label} a result with {problem}.")
                yield self._passed(task, result, reused=True)

    def _submitted(self, level: Level) -> Generator[TaskResult, None, None]:
        """The executor's results; whatever it raises is an ExecutorError."""
        name = self.config.run.executor
        try:
            yield from self.manager.hook.submit_level(level=level, work=self.work)
        except MbexecError:
            raise
        except Exception as error:
            raise ExecutorError(f"The executor {name!r} broke: {type(error).__name__}: {error}") from error

    def _kept(self, level: Level, result: TaskResult) -> TaskResult:
        good = isinstance(result, TaskResult) and isinstance(result.index, int)
        task = level.done(result.index) if good else None
        if task is None:
            raise ExecutorError(
                f"The executor {self.config.run.executor!r} gave {result!r:.80}, which is a second result, "
                "one for a task that it did not pull, or none at all."
            )
        if problem := self._check.problem(task, result):
            raise ExecutorError(f"The executor {self.config.run.executor!r} gave {task.label} a result with {problem}.")
        if self.config.run.store is not None:
            with blamed("store", self.config.run.store):
                self.manager.hook.keep_result(task=task, result=result)
        return self._passed(task, result, reused=False)

    def _passed(self, task: Task, result: TaskResult, *, reused: bool) -> TaskResult:
        self._seen[task.index] = True
        self._energies[task.index] = result.values.get("energy", np.nan)
        log = structlog.get_logger("mbexec")
        for note in result.notes:
            log.warning("fragment_note", label=task.label, note=note)
        if result.output:
            log.info("fragment_output", label=task.label, output=result.output)
        shown = attrs.evolve(result, values=MappingProxyType(result.values)) if self._reporters else result
        for event in self._recorder.record(task, shown, reused):
            self._report(event)
        return result

    def _report(self, event: MetricsEvent) -> None:
        for name, report in list(self._reporters.items()):
            try:
                report(event=event)
            except Exception as error:
                del self._reporters[name]
                structlog.get_logger("mbexec").warning("reporter_left_out", reporter=name, error=repr(error))
