"""The run loop: from an input to a result by way of the hooks. Knows no chemistry and no executor by name."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from contextvars import copy_context
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import structlog
from attrs import define, field, frozen
from numpy.typing import NDArray

from mbexec.core.check import ResultCheck
from mbexec.core.config import layers, read_config
from mbexec.core.context import Cluster, Context
from mbexec.core.errors import ExecutorError, MbexecError, PluginError
from mbexec.core.ghosts import settle_ghosts
from mbexec.core.limits import limited_threads
from mbexec.core.manager import harnesses, host, reporters
from mbexec.core.metrics import MetricsEvent, Recorder, RunDone, RunReport
from mbexec.core.program import node_settings
from mbexec.core.schedule import submissions
from mbexec.core.settings import RunConfig
from mbexec.core.types import Level, Plan, Task, TaskResult
from mbexec.core.work import Work

if TYPE_CHECKING:
    import pluggy
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyResult

__all__ = ["RunResult", "arun", "execute", "make_plan", "plan", "read_job", "run"]

_BATCH = 1000


@frozen(eq=False, slots=False)
class RunResult:
    """What came of a run.

    Attributes
    ----------
    result
        The QCSchema ``ManyBodyResult``; a ``FailedOperation`` where fragments failed.
    report
        What it cost.
    config
        The settings it ran with.
    plan
        The fragment calculations it needed.
    energies : (ntask,) float array, E_h
        Of each fragment calculation, in the plan's order; NaN where there is none.
    """

    result: ManyBodyResult | FailedOperation
    report: RunReport
    config: RunConfig
    plan: Plan
    energies: NDArray[np.float64]

    @cached_property
    def contributions(self) -> dict[str, dict[tuple[int, ...], float]]:
        """What each fragment set adds to the energy beyond its subsets, E_h, by BSSE treatment and set."""
        expansion = self.plan.expansion
        treatments = dict.fromkeys(row.bsse for row in expansion.rows)
        return {bsse: expansion.increments(bsse, self.energies) for bsse in treatments}


def run(spec: Any, *, executor: str | None = None, **settings: Any) -> RunResult:
    """Run a many-body expansion.

    Parameters
    ----------
    spec
        A QCSchema ``ManyBodyInput`` (version 2, or 1), a dict of the same or of a job file's tables, or the path of a
        .toml job file or of a .json or .yaml file.
    executor
        Name of the plugin that runs the fragments.
    **settings
        Job-file keys, dotted (``**{"task.ncores": 2}``); those of ``[run]`` without the dot (``workers=2``).

    Returns
    -------
    RunResult
        With a ``FailedOperation`` in it if fragments failed.

    Raises
    ------
    InputError, ConfigError, PluginError, ProgramError
        Before anything runs, if something asked for can't be.
    ExecutorError
        If the executor breaks.
    """
    return execute(*read_job(spec, _with(executor, settings)))


async def arun(spec: Any, *, executor: str | None = None, **settings: Any) -> RunResult:
    """Run a many-body expansion without blocking the event loop; see :func:`run`.

    When the awaiting task is cancelled, nothing new is started; what runs is finished first.
    """
    stop = threading.Event()
    job = partial(_read_and_execute, spec, _with(executor, settings), stop)
    future = asyncio.get_running_loop().run_in_executor(None, copy_context().run, job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([future])
        future.exception()  # it is told by being cancelled, not by what came of it
        raise


def plan(spec: Any, **settings: Any) -> Plan:
    """The fragment calculations that an input needs, without running any; parameters as for :func:`run`."""
    return make_plan(*read_job(spec, settings))


def _with(executor: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    return dict(settings) if executor is None else {**settings, "run.executor": executor}


def _read_and_execute(spec: Any, settings: Mapping[str, Any], stop: threading.Event) -> RunResult:
    return execute(*read_job(spec, settings), stop)


def read_job(
    spec: Any, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> tuple[ManyBodyInput, RunConfig]:
    """The valid input and the settings of a run, from all their sources."""
    from mbexec.core.schema import many_body_input, open_spec

    qcschema, job = open_spec(spec)
    sources = layers(job, settings, defaults)
    folder = Path(spec).parent if isinstance(spec, (str, Path)) else Path.cwd()
    config = read_config(sources, node_settings)
    return many_body_input(qcschema, sources, folder), config


def make_plan(spec: ManyBodyInput, config: RunConfig) -> Plan:
    """What the planner that the settings name makes of the input."""
    return _planned(host([(config.run.planner, "planner")], config), spec, config)


def _planned(manager: pluggy.PluginManager, spec: ManyBodyInput, config: RunConfig) -> Plan:
    name = config.run.planner
    with _blamed("planner", name):
        made: Plan = manager.hook.build_tasks(spec=spec, config=config)
    if not isinstance(made, Plan):
        raise PluginError(f"The planner {name!r} gave {made!r:.80} as its plan; build_tasks must return a Plan.")
    return made


@contextmanager
def _blamed(role: str, name: str | None) -> Iterator[None]:
    """Let what a plugin raises be a PluginError that names it; what mbexec raises passes."""
    try:
        yield
    except MbexecError:
        raise
    except Exception as error:
        raise PluginError(f"The {role} {name!r} broke: {type(error).__name__}: {error}") from error


@contextmanager
def _entered(name: str, plugin: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a plugin and leave it, whatever happens: its leaving neither hides an error nor loses a result."""
    with _blamed("plugin", name):
        plugin.__enter__()
    try:
        yield
    finally:
        try:
            plugin.__exit__(*sys.exc_info())
        except Exception as error:
            structlog.get_logger("mbexec").warning("plugin_not_left", plugin=name, error=repr(error))


def execute(spec: ManyBodyInput, config: RunConfig, stop: threading.Event | None = None) -> RunResult:
    """Plan, run and merge. Set `stop` from another thread to start nothing new."""
    roles = [(config.run.planner, "planner"), (config.run.executor, "executor")]
    roles += [(name, "reporter") for name in config.run.reporters]
    roles += [(config.run.store, "store")] if config.run.store else []
    manager = host(roles, config)
    with ExitStack() as stack:
        for name, plugin in manager.list_name_plugin():
            if isinstance(plugin, AbstractContextManager):
                stack.enter_context(_entered(name, plugin))
        made = _planned(manager, spec, config)
        stack.enter_context(limited_threads(config.task.ncores))
        context = settle_ghosts(_context(made, config), _ghosted(made))
        work = Work(context, _workers(manager, config))
        work.prepare()
        _warn_of_timeout(manager, config)
        return _Run(made, config, manager, work, stop or threading.Event()).run()


def _context(plan: Plan, config: RunConfig) -> Context:
    many = plan.spec.specification
    atomic = {mc: many.specification[mc].model_copy(update={"driver": many.driver}) for mc in plan.expansion.mcs}
    return Context(
        cluster=Cluster.of(plan.spec.molecule),
        specifications=atomic,
        harnesses=harnesses(specification.program for specification in atomic.values()),
        task=config.task,
        bodies=many.protocols.cluster_results.value == "all",
    )


def _ghosted(plan: Plan) -> list[str]:
    """Model chemistries with fragments in a basis wider than their own."""
    expansion = plan.expansion
    return [expansion.mcs[mc] for mc in np.unique(expansion.mc[expansion.frag != expansion.bas]).tolist()]


def _workers(manager: pluggy.PluginManager, config: RunConfig) -> int:
    """How many workers are granted: no more than the executor says it can use."""
    most: int = getattr(manager.get_plugin(config.run.executor), "max_workers", config.run.workers)
    return min(config.run.workers, most)


def _warn_of_timeout(manager: pluggy.PluginManager, config: RunConfig) -> None:
    executor = manager.get_plugin(config.run.executor)
    if config.task.timeout is not None and not getattr(executor, "can_kill", False):
        warnings.warn(
            f"task.timeout = {config.task.timeout:g} has no effect: "
            f"the executor {config.run.executor!r} cannot stop a fragment that runs.",
            stacklevel=2,
        )


@define(eq=False)
class _Run:
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
        self._check = ResultCheck(spec.specification.driver.value, [len(atoms) for atoms in spec.molecule.fragments])
        self._recorder = Recorder(self.plan, uuid.uuid4().hex[:12], self.config.run.executor, self.work.workers)
        self._reporters = reporters(self.manager)
        self._seen = np.zeros(len(self.plan), dtype=bool)
        self._energies = np.full(len(self.plan), np.nan)

    def run(self) -> RunResult:
        """Submit everything and merge what comes."""
        self._report(self._recorder.begin())
        result = self._merged()
        report = self._recorder.report()
        self._report(RunDone(report))
        return RunResult(result, report, self.config, self.plan, self._energies)

    def _merged(self) -> ManyBodyResult | FailedOperation:
        from qcelemental.models.v2 import FailedOperation
        from qcmanybody.models.v2 import ManyBodyResult

        name = self.config.run.planner
        with _blamed("planner", name), closing(self._results()) as results:
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
            with _blamed("store", self.config.run.store):
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
            with _blamed("store", self.config.run.store):
                self.manager.hook.keep_result(task=task, result=result)
        return self._passed(task, result, reused=False)

    def _passed(self, task: Task, result: TaskResult, *, reused: bool) -> TaskResult:
        self._seen[task.index] = True
        self._energies[task.index] = result.values.get("energy", np.nan)
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
