"""One run: what the executor gives goes to the merger, seen by store and reporters as it passes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from mbexec.core import telling
from mbexec.core.blame import blamed
from mbexec.core.choosing import left_out
from mbexec.core.errors import ExecutorError, MbexecError, PluginError
from mbexec.core.events import MetricsEvent, RunDone
from mbexec.core.manager import reporters
from mbexec.core.metrics import RunReport
from mbexec.core.prepare import Prepared
from mbexec.core.recorder import Recorder
from mbexec.core.running import Running
from mbexec.core.schedule import submissions
from mbexec.core.settings import RunConfig
from mbexec.core.stored import Stored
from mbexec.core.types import Level, Plan, Task, TaskResult
from mbexec.core.work import Work

if TYPE_CHECKING:
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyResult

__all__ = ["Run"]

_TWICE = "It was run twice, the second time with no other fragment beside it, and failed both times."


@define(eq=False)
class Run:
    """One run: results on their way from the executor to the merger, seen by store and reporters as they pass.

    Attributes
    ----------
    ready
        What to run, and how.
    stop
        Set from outside when nothing new is to start.
    watch
        Told of each event, before the reporters are.
    """

    ready: Prepared
    stop: threading.Event
    watch: Callable[[MetricsEvent], None] | None = None
    plan: Plan = field(init=False)
    config: RunConfig = field(init=False)
    _stored: Stored | None = field(init=False)
    _recorder: Recorder = field(init=False)
    _reporters: dict[str, Callable[..., Any]] = field(init=False)
    _seen: NDArray[np.bool_] = field(init=False)
    _energies: NDArray[np.float64] = field(init=False)
    _left_out: NDArray[np.bool_] = field(init=False)
    _undecided: bool = field(init=False)
    _came: list[tuple[Task, TaskResult]] = field(factory=list, init=False)
    _again: dict[int, tuple[TaskResult, float]] = field(factory=dict, init=False)
    _broken_off: bool = field(default=False, init=False)
    _telling: threading.RLock = field(factory=threading.RLock, init=False)
    _running: Running = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.plan, self.config, self._stored = self.ready.plan, self.ready.config, self.ready.stored
        workers = self.ready.work.workers
        self._recorder = Recorder(self.plan, self.config, uuid.uuid4().hex[:12], workers)
        self._reporters = reporters(self.ready.manager)
        self._seen = ~self.plan.runs
        self._energies = np.full(len(self.plan), np.nan)
        self._running = Running(self._report, self._telling)
        if self._reporters:
            self.ready.work.on_begin = self._begun
        self._left_out = np.zeros(len(self.plan), dtype=bool)
        self._undecided = bool(self.plan.undecided.any())

    def run(self) -> tuple[ManyBodyResult | FailedOperation, RunReport, NDArray[np.float64]]:
        """Submit everything and merge what comes: the result, what it cost, and the energy of each task."""
        kept = self._stored.describe() if self._stored is not None else ""
        self._report(self._recorder.begin(kept, self.ready.programs))
        with self._running if self._reporters else nullcontext():
            result = self._merged()
        report = self._cost()
        self._report(RunDone(report, result, self.stop.is_set()))
        return result, report, self._energies

    def _cost(self) -> RunReport:
        executor = self.ready.manager.get_plugin(self.config.run.executor)
        return self._recorder.report(getattr(executor, "bytes_moved", None))

    def computed(self, order: NDArray[np.int64]) -> Generator[TaskResult, None, None]:
        """Results of the tasks at these places of the plan, merged by nobody; none is run again."""
        yield from self._run(order, self.ready.work, again=True)
        yield from (result for result, _ in self._again.values())

    def sampled(self, order: NDArray[np.int64]) -> tuple[list[TaskResult], RunReport]:
        """What `computed` gives, and what it cost."""
        results = list(self.computed(order))
        return results, self._cost()

    def _merged(self) -> ManyBodyResult | FailedOperation:
        from qcelemental.models.v2 import FailedOperation
        from qcmanybody.models.v2 import ManyBodyResult

        name = self.config.run.planner
        with blamed("planner", name), closing(self._results()) as results:
            result = self.ready.manager.hook.merge_results(plan=self.plan, results=results)
        if not isinstance(result, (ManyBodyResult, FailedOperation)):
            raise PluginError(
                f"The planner {name!r} gave {result!r:.80} as the result; "
                "merge_results must return a ManyBodyResult or a FailedOperation."
            )
        left = int((~(self._seen | self._left_out)).sum())
        if left and not self._is_draining():
            raise PluginError(
                f"The planner {name!r} gave a result when {left} of {int(self.plan.runs.sum())} tasks had given none; "
                "merge_results must consume its results to the end."
            )
        return result

    def _is_draining(self) -> bool:
        return self.stop.is_set() or self._broken_off

    def _results(self) -> Generator[TaskResult, None, None]:
        seed = None if self._stored is None else int(self._recorder.run_id, 16)
        for order in map(self._needed, submissions(self.plan, self.config.run.schedule, seed)):
            for task, result in self._stored.known(self.plan, order) if self._stored is not None else ():
                yield self._reused(task, result)
            yield from self._run(order[~self._seen[order]], self.ready.work, again=True)
            yield from self._run_again()

    def _needed(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of a submission's tasks those that must run, as far as that can be known by now."""
        undecided = self.plan.undecided
        if self._undecided and self._seen[~undecided].all():
            self._left_out = left_out(self.ready.manager, self.config.run.planner, self.plan, self._energies)
            self._undecided = False
            for event in self._recorder.leave_out(np.flatnonzero(self._left_out)):
                self._report(event)
        waiting = undecided if self._undecided else self._left_out  # the former of a run that is being stopped
        return order[~waiting[order]]

    def _run_again(self) -> Iterator[TaskResult]:
        """Fragments that ended with a random error, one by one: alone they may have memory enough, or better luck."""
        held = dict(self._again)
        self._again.clear()
        if held and not self._is_draining():
            telling.info("fragments_run_again", labels=[self.plan[index].label for index in held])
            yield from self._run(np.array(list(held)), self.ready.work.alone(), again=False)
        for index, (result, queued) in held.items():
            if self._seen[index]:
                self._recorder.retry(result)
            else:
                yield self._taken(self.plan[index], result, queued)

    def _run(self, order: NDArray[np.int64], work: Work, *, again: bool) -> Generator[TaskResult, None, None]:
        """Submit a level; those that may run `again` are held back."""
        level = Level(self.plan, order, self._is_draining, self._came_meanwhile)
        self._recorder.submit(work.workers)
        with closing(self._submitted(level, work)) as submitted:
            for result in submitted if len(level) else ():
                task, queued = self._checked(level, result)
                if again and result.error is not None and result.error.error_type == "random_error":
                    self._again[task.index] = result, queued
                    self._report(self._recorder.hold(task, result, queued))
                else:
                    if not again and result.error is not None:
                        result = result.noted(_TWICE)
                    yield self._taken(task, result, queued)
                yield from self._late()
        yield from self._late()
        if lost := level.unfinished():
            raise ExecutorError(f"The executor {self.config.run.executor!r} gave no result for {lost[0].label}.")

    def _came_meanwhile(self, task: Task) -> bool:
        """Whether another run has brought the task's result into the store since it was asked."""
        result = None if self._stored is None else self._stored.now(task)
        if result is not None:
            self._came.append((task, result))
        return result is not None

    def _late(self) -> Iterator[TaskResult]:
        while self._came:
            yield self._reused(*self._came.pop())

    def _submitted(self, level: Level, work: Work) -> Generator[TaskResult, None, None]:
        """The executor's results; whatever it raises is an ExecutorError."""
        name = self.config.run.executor
        try:
            yield from self.ready.manager.hook.submit_level(level=level, work=work)
        except MbexecError:
            raise
        except Exception as error:
            raise ExecutorError(f"The executor {name!r} broke: {type(error).__name__}: {error}") from error

    def _checked(self, level: Level, result: TaskResult) -> tuple[Task, float]:
        """The task that a result of the executor's belongs to, and when the executor took it."""
        good = isinstance(result, TaskResult) and isinstance(result.index, int)
        pulled = level.done(result.index) if good else None
        if pulled is None:
            raise ExecutorError(
                f"The executor {self.config.run.executor!r} gave {result!r:.80}, which is a second result, "
                "one for a task that it did not pull, or none at all."
            )
        task, _ = pulled
        self._running.done(task.index)
        if problem := self.ready.check.problem(task, result):
            raise ExecutorError(f"The executor {self.config.run.executor!r} gave {task.label} a result with {problem}.")
        return pulled

    def _taken(self, task: Task, result: TaskResult, queued: float) -> TaskResult:
        """A result that has just been computed: kept first of all."""
        if self._stored is not None and not (self.stop.is_set() and result.error is not None):
            self._stored.keep(task, result)  # but for fragments that were killed to stop the run
        if result.error is not None and self.config.run.on_error == "stop":
            self._broken_off = True
        return self._passed(task, result, self._recorder.record(task, result, queued))

    def _reused(self, task: Task, result: TaskResult) -> TaskResult:
        """A result that the store gave."""
        return self._passed(task, result, self._recorder.reuse(task, result))

    def _passed(self, task: Task, result: TaskResult, events: Iterable[MetricsEvent]) -> TaskResult:
        self._seen[task.index] = True
        self._energies[task.index] = energy = result.values.get("energy", np.nan)
        if self.plan.symmetry is not None:
            self._energies[self.plan.symmetry.stood_for(task.index)] = energy
        for note in result.notes:
            telling.warning("fragment_note", label=task.label, note=note)
        if result.output:
            telling.info("fragment_output", label=task.label, output=result.output)
        for event in events:
            self._report(event)
        return result

    def _begun(self, task: Task) -> None:
        """In whatever thread an executor says so, and however late."""
        if not self._seen[task.index]:
            self._running.begun(task)

    def _report(self, event: MetricsEvent) -> None:
        """Reporters are called one at a time."""
        with self._telling:
            if self.watch is not None:
                self.watch(event)
            for name, report in self._reporters.items():
                try:
                    report(event=event)
                except Exception as error:
                    self._reporters = {other: its for other, its in self._reporters.items() if other != name}
                    telling.warning("reporter_left_out", reporter=name, error=repr(error))
