"""Everything that a run needs before its first fragment: plugins entered, the plan, what workers are given."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from mbexec.core import telling
from mbexec.core.blame import blamed
from mbexec.core.check import ResultCheck
from mbexec.core.config import SHARED_FILE
from mbexec.core.context import Cluster, Context, alternative_label, rung_label
from mbexec.core.convergence import warn_of_errors
from mbexec.core.errors import PluginError
from mbexec.core.ghosts import settle_ghosts
from mbexec.core.keys import Keys
from mbexec.core.ladder import without_ladder
from mbexec.core.limits import limited_threads
from mbexec.core.manager import harnesses, host, misspelt_tables
from mbexec.core.resources import granted_cores
from mbexec.core.safety import refuse_mixed, refuse_unsafe
from mbexec.core.settings import RunConfig, TaskSettings
from mbexec.core.stored import Stored
from mbexec.core.types import Plan
from mbexec.core.work import Work

if TYPE_CHECKING:
    import pluggy
    from qcelemental.models.v2 import AtomicSpecification
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["Prepared", "context_of", "keys_of", "planned", "prepared"]


@frozen(eq=False)
class Prepared:
    """A run that could start.

    Attributes
    ----------
    config, plan
        Of the run.
    manager
        With the plugins that take part, entered.
    work
        For the executor.
    check
        Of results.
    stored
        The store; None for none.
    programs
        The version of each program, by name in lower case; empty if nobody is to be told.
    """

    config: RunConfig
    plan: Plan
    manager: pluggy.PluginManager
    work: Work
    check: ResultCheck
    stored: Stored | None
    programs: Mapping[str, str]


@contextmanager
def prepared(spec: ManyBodyInput, config: RunConfig) -> Iterator[Prepared]:
    """Enter the plugins, plan, load the programs, and refuse what can't be; the plugins are left at the end."""
    roles = [(config.run.planner, "planner"), (config.run.executor, "executor")]
    roles += [(name, "reporter") for name in config.run.reporters]
    roles += [(config.run.store, "store")] if config.run.store else []
    manager = host(roles, config)
    executor = manager.get_plugin(config.run.executor)
    with ExitStack() as stack:
        for name, plugin in manager.list_name_plugin():
            if isinstance(plugin, AbstractContextManager):
                stack.enter_context(_entered(name, plugin))
        plan = planned(manager, spec, config)
        isolated = getattr(executor, "isolates_processes", False)
        if not isolated:
            refuse_mixed(config)
            stack.enter_context(limited_threads(config.task.ncores))
        alternatives = getattr(executor, "alternatives", ())
        bodies = getattr(manager.get_plugin(config.run.store or ""), "bodies", False)
        context = context_of(plan, config, alternatives, bodies=bodies)
        context = settle_ghosts(context, _ghosted(plan, context))
        work = Work(context, _workers(manager, config))
        programs = work.prepare()
        if not isolated:
            refuse_unsafe(programs, config.run.executor, work.workers)
        _warn_of_tables(config)
        _warn_of_timeout(executor, config)
        if getattr(executor, "elsewhere", False):
            _warn_of_share(config)
        else:
            _warn_of_cores(work.workers, config)
        warn_of_errors(plan)
        sizes = [len(atoms) for atoms in plan.spec.molecule.fragments]
        check = ResultCheck(plan.spec.specification.driver.value, sizes, plan.properties)
        versions = programs.versions() if config.run.store is not None or config.run.reporters else {}
        stored = _stored(manager, plan, context, versions, check, config)
        yield Prepared(config, plan, manager, work, check, stored, versions)


def _stored(
    manager: pluggy.PluginManager,
    plan: Plan,
    context: Context,
    versions: Mapping[str, str],
    check: ResultCheck,
    config: RunConfig,
) -> Stored | None:
    """The run's store, if it has one."""
    if config.run.store is None:
        return None
    keys = keys_of(plan, context, versions)
    bodies = plan.spec.specification.protocols.cluster_results.value == "all"
    plugin, failures = manager.get_plugin(config.run.store), not config.run.retry_failed
    return Stored(config.run.store, plugin, manager.hook, keys, check, bodies, failures)


@contextmanager
def _entered(name: str, plugin: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a plugin and leave it, whatever happens: its leaving neither hides an error nor loses a result."""
    with blamed("plugin", name):
        plugin.__enter__()
    try:
        yield
    finally:
        try:
            plugin.__exit__(*sys.exc_info())
        except Exception as error:
            telling.warning("plugin_not_left", plugin=name, error=repr(error))


def planned(manager: pluggy.PluginManager, spec: ManyBodyInput, config: RunConfig) -> Plan:
    """The plan that the planner makes."""
    name = config.run.planner
    with blamed("planner", name):
        made: Plan = manager.hook.build_tasks(spec=spec, config=config)
    if not isinstance(made, Plan):
        raise PluginError(f"The planner {name!r} gave {made!r:.80} as its plan; build_tasks must return a Plan.")
    if made.symmetry is not None and made.undecided.any():
        raise PluginError(
            f"The planner {name!r} gave a plan that has both duplicates by symmetry and undecided tasks; "
            "leave one of them out of the Plan."
        )
    _warn_of_orders(made, config)
    return made


def _warn_of_orders(plan: Plan, config: RunConfig) -> None:
    """Tell of [task.N] without a fragment of N bodies, unless it stands in a file for many jobs."""
    sizes = [level.nbody for level in plan.levels]
    for nbody in config.task_of.keys() - set(sizes):
        keys = [key for key in config.sources if key.startswith(f"task.{nbody}.")]
        sources = [config.sources[key] for key in keys if Path(config.sources[key]).name != SHARED_FILE]
        if sources:
            warnings.warn(
                f"{sources[0]}: [task.{nbody}] has no effect: the fragments of this job have "
                f"{', '.join(map(str, sizes))} bodies.",
                stacklevel=2,
            )


def keys_of(plan: Plan, context: Context, versions: Mapping[str, str]) -> Keys:
    """The keys of a plan's tasks; `versions` are the programs'."""
    return Keys(context, versions, plan.spec.specification.driver.value, plan.expansion.mcs)


def context_of(
    plan: Plan, config: RunConfig, alternatives: Sequence[Mapping[str, Any]] = (), *, bodies: bool = False
) -> Context:
    """What workers are given of a plan, before anyone knows what its programs make of ghosts."""
    many = plan.spec.specification
    atomic = {}
    rungs = {}
    for mc in plan.expansion.mcs:
        given, ladder = without_ladder(many.specification[mc].model_copy(update={"driver": many.driver}))
        rungs[mc] = len(ladder)
        for place, keywords in enumerate(ladder, start=1):
            atomic[rung_label(mc, place)] = _changed(given, {"keywords": keywords})
        for place, change in enumerate([{}, *alternatives]):
            atomic[alternative_label(mc, place)] = _changed(given, change)
    return Context(
        cluster=Cluster.of(plan.spec.molecule),
        specifications=atomic,
        harnesses=harnesses(specification.program for specification in atomic.values()),
        task=config.task,
        bodies=bodies or many.protocols.cluster_results.value == "all",
        properties=plan.properties,
        task_of=config.task_of,
        rungs=rungs,
        alternatives=len(alternatives),
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


def _ghosted(plan: Plan, context: Context) -> list[str]:
    """Model chemistries with fragments in a basis wider than their own, and all that may be tried instead."""
    expansion = plan.expansion
    mcs = [expansion.mcs[mc] for mc in np.unique(expansion.mc[expansion.frag != expansion.bas]).tolist()]
    return [label for mc in mcs for label in context.route(mc)]


def _workers(manager: pluggy.PluginManager, config: RunConfig) -> int:
    """How many workers are granted: no more than the executor says it can use."""
    most: int = getattr(manager.get_plugin(config.run.executor), "max_workers", config.run.workers)
    return min(config.run.workers, most)


def _tasks(config: RunConfig) -> dict[str, TaskSettings]:
    """Settings of fragments, by the table that they stand in."""
    return {"task": config.task} | {f"task.{nbody}": task for nbody, task in config.task_of.items()}


def _warn_of_cores(workers: int, config: RunConfig) -> None:
    """Tell that fragments may use more cores at once than there are; many workers of one core each are no mistake."""
    found = {key: task.ncores for key, task in _tasks(config).items() if f"{key}.ncores" in config.sources}
    key = max(found, key=lambda each: found[each])
    granted = granted_cores(os.environ)
    if found[key] == 1 or workers * found[key] <= granted.amount:
        return
    lower = f"{key}.ncores" + (" or run.workers" if workers > 1 else "")
    asked = f"run.workers = {config.run.workers}, {config.sources['run.workers']}"
    warnings.warn(
        f"{key}.ncores = {found[key]} ({config.sources[f'{key}.ncores']}) for {workers} fragment{'s' * (workers > 1)} "
        f"at once ({asked}) makes {workers * found[key]} cores, but this process is granted {granted.amount:.0f} "
        f"({granted.source}), so threads would wait for each other. Lower {lower}.",
        stacklevel=2,
    )


def _warn_of_tables(config: RunConfig) -> None:
    """Tell of tables whose plugin is nearly there; others may be for another machine."""
    for name, question in misspelt_tables(config).items():
        warnings.warn(f"[plugin.{name}] changes nothing: no plugin of that name is installed.{question}", stacklevel=2)


def _warn_of_share(config: RunConfig) -> None:
    """Tell that fragments on other machines may use what is a share of this machine's memory."""
    if config.sources["task.memory"].startswith("split of "):
        warnings.warn(
            f"task.memory is not set, and {config.task.memory:g} GiB is this machine's memory divided by run.workers = "
            f"{config.run.workers}, but the executor {config.run.executor!r} runs fragments on other machines. "
            "Set task.memory.",
            stacklevel=2,
        )


def _warn_of_timeout(executor: object, config: RunConfig) -> None:
    given = [(key, task.timeout) for key, task in _tasks(config).items() if task.timeout is not None]
    if given and not getattr(executor, "can_kill", False):
        key, timeout = given[0]
        warnings.warn(
            f"{key}.timeout = {timeout:g} has no effect: "
            f"the executor {config.run.executor!r} cannot stop a fragment that runs.",
            stacklevel=2,
        )
