"""From an input to a result by way of the hooks. Knows no chemistry and no executor by name."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import copy_context
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.config import Layer, layers, read_config
from mbexec.core.context import Cluster, Context, alternative_label
from mbexec.core.convergence import warn_of_convergence
from mbexec.core.errors import PluginError
from mbexec.core.ghosts import settle_ghosts
from mbexec.core.host import ask_early, node_settings
from mbexec.core.limits import limited_threads
from mbexec.core.loop import Run, blamed, entered
from mbexec.core.manager import find_plugin, harnesses, host
from mbexec.core.metrics import RunReport
from mbexec.core.opening import open_spec
from mbexec.core.safety import refuse_mixed, refuse_unsafe
from mbexec.core.settings import RunConfig
from mbexec.core.types import Plan
from mbexec.core.work import Work

if TYPE_CHECKING:
    import pluggy
    from qcelemental.models.v2 import AtomicSpecification, FailedOperation
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyResult

__all__ = ["RunResult", "arun", "execute", "make_plan", "plan", "read_job", "run"]


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
    return execute(*read_job(spec, _with(executor, settings), to_run=True))


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
    return execute(*read_job(spec, settings, to_run=True), stop)


def read_job(
    spec: Any, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, *, to_run: bool = False
) -> tuple[ManyBodyInput, RunConfig]:
    """The valid input and the settings of a run, from all their sources; `to_run` if the run follows at once."""
    qcschema, job = open_spec(spec)
    sources = layers(job, settings, defaults)
    if to_run:
        _start_executor(sources)
        if _wants_bodies(qcschema, sources):
            ask_early()
    from mbexec.core.schema import many_body_input

    folder = Path(spec).parent if isinstance(spec, (str, Path)) else Path.cwd()
    config = read_config(sources, node_settings)
    return many_body_input(qcschema, sources, folder), config


def _start_executor(sources: Sequence[Layer]) -> None:
    """Let an executor that needs time to start have that of reading the input."""
    with suppress(Exception):  # what is wrong with settings or plugin is said when its turn has come
        names = [layer.tables["run"]["executor"] for layer in sources if "executor" in layer.tables.get("run", {})]
        executor = find_plugin(names[-1], "executor") if names else None
        getattr(executor, "start", lambda: None)()


def _wants_bodies(qcschema: Any, sources: Sequence[Layer]) -> bool:
    """Whether whole results are wanted, as far as can be seen before the input is read."""
    given = [
        layer.tables["mbe"]["cluster_results"] for layer in sources if "cluster_results" in layer.tables.get("mbe", {})
    ]
    with suppress(Exception):  # the input is a job file, or wrong, which is said when it is read
        given.insert(0, qcschema["specification"]["protocols"]["cluster_results"])
    return given[-1:] == ["all"]


def make_plan(spec: ManyBodyInput, config: RunConfig) -> Plan:
    """What the planner that the settings name makes of the input."""
    return _planned(host([(config.run.planner, "planner")], config), spec, config)


def _planned(manager: pluggy.PluginManager, spec: ManyBodyInput, config: RunConfig) -> Plan:
    name = config.run.planner
    with blamed("planner", name):
        made: Plan = manager.hook.build_tasks(spec=spec, config=config)
    if not isinstance(made, Plan):
        raise PluginError(f"The planner {name!r} gave {made!r:.80} as its plan; build_tasks must return a Plan.")
    return made


def execute(spec: ManyBodyInput, config: RunConfig, stop: threading.Event | None = None) -> RunResult:
    """Plan, run and merge. Set `stop` from another thread to start nothing new."""
    roles = [(config.run.planner, "planner"), (config.run.executor, "executor")]
    roles += [(name, "reporter") for name in config.run.reporters]
    roles += [(config.run.store, "store")] if config.run.store else []
    manager = host(roles, config)
    executor = manager.get_plugin(config.run.executor)
    with ExitStack() as stack:
        for name, plugin in manager.list_name_plugin():
            if isinstance(plugin, AbstractContextManager):
                stack.enter_context(entered(name, plugin))
        made = _planned(manager, spec, config)
        isolated = getattr(executor, "isolates_processes", False)
        if not isolated:
            refuse_mixed(config)
            stack.enter_context(limited_threads(config.task.ncores))
        alternatives = getattr(executor, "alternatives", ())
        context = settle_ghosts(_context(made, config, alternatives), _ghosted(made, len(alternatives)))
        work = Work(context, _workers(manager, config))
        programs = work.prepare()
        if not isolated:
            refuse_unsafe(programs, config.run.executor, work.workers)
        _warn_of_timeout(executor, config)
        warn_of_convergence(made)
        result, report, energies = Run(made, config, manager, work, stop or threading.Event()).run()
    return RunResult(result, report, config, made, energies)


def _context(plan: Plan, config: RunConfig, alternatives: Sequence[Mapping[str, Any]] = ()) -> Context:
    many = plan.spec.specification
    atomic = {}
    for mc in plan.expansion.mcs:
        given = many.specification[mc].model_copy(update={"driver": many.driver})
        for place, change in enumerate([{}, *alternatives]):
            atomic[alternative_label(mc, place)] = _changed(given, change)
    return Context(
        cluster=Cluster.of(plan.spec.molecule),
        specifications=atomic,
        harnesses=harnesses(specification.program for specification in atomic.values()),
        task=config.task,
        bodies=many.protocols.cluster_results.value == "all",
        properties=plan.properties,
        task_of=config.task_of,
    )


def _changed(given: AtomicSpecification, change: Mapping[str, Any]) -> AtomicSpecification:
    """A model chemistry with some of its program, method, basis and keywords replaced; another program has its own."""
    model = {key: change[key] for key in ("method", "basis") if key in change}
    keywords = {} if "program" in change else given.keywords
    return given.model_copy(
        update={
            "program": change.get("program", given.program),
            "model": given.model.model_copy(update=model),
            "keywords": {**keywords, **change.get("keywords", {})},
        }
    )


def _ghosted(plan: Plan, alternatives: int) -> list[str]:
    """Model chemistries with fragments in a basis wider than their own, and the alternatives to them."""
    expansion = plan.expansion
    mcs = [expansion.mcs[mc] for mc in np.unique(expansion.mc[expansion.frag != expansion.bas]).tolist()]
    return [alternative_label(mc, place) for mc in mcs for place in range(alternatives + 1)]


def _workers(manager: pluggy.PluginManager, config: RunConfig) -> int:
    """How many workers are granted: no more than the executor says it can use."""
    most: int = getattr(manager.get_plugin(config.run.executor), "max_workers", config.run.workers)
    return min(config.run.workers, most)


def _warn_of_timeout(executor: object, config: RunConfig) -> None:
    found = {"task": config.task} | {f"task.{nbody}": task for nbody, task in config.task_of.items()}
    given = [(key, task.timeout) for key, task in found.items() if task.timeout is not None]
    if given and not getattr(executor, "can_kill", False):
        key, timeout = given[0]
        warnings.warn(
            f"{key}.timeout = {timeout:g} has no effect: "
            f"the executor {config.run.executor!r} cannot stop a fragment that runs.",
            stacklevel=2,
        )
