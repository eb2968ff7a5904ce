"""Running systems on executors and comparing what they give.

Each system runs on the serial executor first. What any other executor gives must be the same, bit for bit unless the
program itself gives other bits each time; and what serial gives is compared with what is known without an expansion.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field

from mbexec.core import engine
from mbexec.core.errors import ConfigError, MbexecError, ProgramError
from mbexec.core.manager import find_plugin, host, installed_plugins
from mbexec.core.messages import gist
from mbexec.validation.agreement import Numbers, difference_between, failure_in, numbers_of
from mbexec.validation.findings import Executor, Outcome, Tried, Validation
from mbexec.validation.systems import Check, System, check_alone, check_together

if TYPE_CHECKING:
    from mbexec.core.engine import RunResult
    from mbexec.core.settings import RunConfig

__all__ = ["validate"]

_SERIAL = "serial"
_CAPABILITIES = ("isolates_processes", "can_kill", "survives_worker_death")
_TIMED, _MOST = 0.5, 5  # s of wall time, and runs: short ones are repeated, and the fastest one counts
_REPEATS = 2  # further serial runs, where the bits of another executor are not serial's
_NOISE = 10  # three runs show less than what may differ


def validate(
    systems: Sequence[System],
    executors: Sequence[str] = (),
    workers: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Validation:
    """Run systems on executors and compare.

    Parameters
    ----------
    systems
        At least one.
    executors
        Names; all that are installed if empty. Serial runs in any case.
    workers
        How many fragments may run at once; None for what the settings say.
    tell
        Called with a line before each run.

    Raises
    ------
    PluginNotFoundError
        If an executor that was named is not installed.
    HookError
        If one is no executor.
    """
    for name in executors:
        find_plugin(name, "executor")
    settings = {"task.ncores": 1} | ({} if workers is None else {"run.workers": workers})
    config = engine.read_job(systems[0].job, settings)[1]
    for plugin in installed_plugins():
        if plugin.name in executors and not plugin.error and "executor" not in plugin.roles:
            host([(plugin.name, "executor")], config)  # says what is wrong with it, as a run does
    here = _installed(executors, config)
    trial = _Trial([each.name for each in here if not each.problem], settings, tell)
    missing: dict[System, str] = {}
    load = os.getloadavg()[0]
    outcomes = []
    for system in systems:
        try:
            outcomes.append(trial.outcome(system, _version(system)))
        except ProgramError as error:
            missing[system] = str(error)
    return Validation(tuple(here), tuple(outcomes), missing, tuple(check_together(trial.references)), load)


def _version(system: System) -> str:
    """Of the program; nothing where it has trouble to say it, for the runs will tell what is wrong.

    Raises
    ------
    ProgramError
        If it is not installed.
    """
    try:
        return str(system.harness().get_version())
    except ProgramError:
        raise
    except Exception:
        return "-"


def _installed(wanted: Sequence[str], config: RunConfig) -> list[Executor]:
    """Executors that take part, the serial one first, and plugins that can't be imported: they might be executors."""
    found = []
    for plugin in installed_plugins():
        if (plugin.error or "executor" in plugin.roles) and (not wanted or plugin.name in (_SERIAL, *wanted)):
            problem, says = plugin.error, []
            try:
                built = host([(plugin.name, "executor")], config).get_plugin(plugin.name)
                says = [name for name in _CAPABILITIES if getattr(built, name, False)]
            except MbexecError as error:
                problem = str(error)
            found.append(Executor(plugin.name, plugin.distribution, plugin.version, tuple(says), problem))
    return sorted(found, key=lambda each: each.name != _SERIAL)


@define(eq=False)
class _Trial:
    """Runs systems on executors."""

    executors: Sequence[str]
    settings: Mapping[str, Any]
    tell: Callable[[str], None]
    references: dict[System, RunResult] = field(factory=dict)

    def outcome(self, system: System, version: str) -> Outcome:
        """A system on every executor; on serial alone if there is nothing to compare with."""
        first, runs = self._try(system, _SERIAL)
        if not runs:
            return Outcome(system, version, (first,))
        self.references[system] = runs[0]
        expected = numbers_of(runs[0])
        tried = [self._compared(first, system, expected, runs[1:])]
        for name in self.executors:
            if name != _SERIAL:
                one, runs = self._try(system, name)
                tried.append(self._compared(one, system, expected, runs) if runs else one)
        return Outcome(system, version, tuple(tried), tuple(self._checks(system)))

    def _try(self, system: System, executor: str) -> tuple[Tried, list[RunResult]]:
        """The runs, none if something is wrong, and what the fastest of them cost."""
        where = f"{system.name} on {executor}"
        self.tell(where)
        try:
            start, runs = self._run(system.monomers, executor), self._runs(system, executor)
        except MbexecError as error:
            if isinstance(error, ConfigError) and executor != _SERIAL:
                return Tried(executor, refused=str(error)), []
            return Tried(executor, problem=f"{where}: {error}"), []
        except Exception as error:  # whatever is wrong with a program: it is what people want to know
            return Tried(executor, problem=f"{where}: {type(error).__name__}: {error}"), []
        fastest = min((found.report for found in runs), key=lambda report: report.wall_time)
        tried = Tried(executor, fastest, start.report.wall_time)
        if failed := [found for found in runs if not found.result.success]:
            return attrs.evolve(tried, problem=f"{where}: {failure_in(failed[0])}"), []
        return tried, runs

    def _runs(self, system: System, executor: str) -> list[RunResult]:
        runs = [self._run(system, executor)]
        while sum(found.report.wall_time for found in runs) < _TIMED and len(runs) < _MOST:
            runs.append(self._run(system, executor))
        return runs

    def _run(self, system: System, executor: str) -> RunResult:
        """With the user's settings, but for a store: what was computed before proves nothing."""
        spec, config = engine.read_job(system.job, {**self.settings, "run.executor": executor})
        return engine.execute(spec, attrs.evolve(config, run=attrs.evolve(config.run, store=None, reporters=())))

    def _compared(self, tried: Tried, system: System, expected: Numbers, runs: Sequence[RunResult]) -> Tried:
        """With the run that differs most from what is expected."""
        differences = [difference_between(expected, numbers_of(found)) for found in runs]
        first, difference, differing = max(differences, key=lambda each: (each[1], each[2]), default=("", 0.0, 0))
        tried = attrs.evolve(tried, difference=difference)
        if not differing:
            return tried
        spread = max(self._spread(system, expected), system.noise / _NOISE)
        if 0 < spread >= difference / _NOISE:
            return attrs.evolve(tried, spread=spread)
        told = f"{first} is not serial's"
        told += f", nor are {differing - 1} other numbers, by up to" if differing > 1 else ", by"
        repeats = (
            f"repeated serial runs differ by {spread:.1e}" if spread else "repeated serial runs give the same bits"
        )
        problem = f"{system.name} on {tried.executor}: {told} {difference:.1e}; {repeats}."
        return attrs.evolve(tried, spread=spread, problem=problem)

    def _spread(self, system: System, expected: Numbers) -> float:
        self.tell(f"{system.name} on {_SERIAL} again, to see if it gives the same bits each time")
        repeats = [numbers_of(self._run(system, _SERIAL)) for _ in range(_REPEATS)]
        return max(difference_between(one, other)[1] for one in repeats for other in (expected, *repeats))

    def _checks(self, system: System) -> list[Check]:
        try:
            return list(check_alone(system, self.references[system]))
        except ProgramError as error:
            return [Check(system.name, f"the whole cluster, which fails ({gist(str(error))})", math.nan, 0.0)]
