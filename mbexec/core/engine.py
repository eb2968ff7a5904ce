"""From an input to a result by way of the hooks. Knows no chemistry and no executor by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.config import Layer, layers, read_config, working_directory
from mbexec.core.events import MetricsEvent
from mbexec.core.host import ask_early, node_settings
from mbexec.core.loop import Run
from mbexec.core.manager import find_plugin, host
from mbexec.core.metrics import RunReport
from mbexec.core.opening import open_spec
from mbexec.core.prepare import planned, prepared
from mbexec.core.settings import RunConfig
from mbexec.core.types import Plan

if TYPE_CHECKING:
    from qcelemental.models.v2 import FailedOperation
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
    import asyncio

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

    folder = Path(spec).parent if isinstance(spec, (str, Path)) else working_directory()
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
    return planned(host([(config.run.planner, "planner")], config), spec, config)


def execute(
    spec: ManyBodyInput,
    config: RunConfig,
    stop: threading.Event | None = None,
    watch: Callable[[MetricsEvent], None] | None = None,
) -> RunResult:
    """Plan, run and merge. Set `stop` from another thread to start nothing new; `watch` is told what reporters are."""
    with prepared(spec, config) as ready:
        result, report, energies = Run(ready, stop or threading.Event(), watch).run()
    return RunResult(result, report, config, ready.plan, energies)
