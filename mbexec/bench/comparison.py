"""Measuring a job on executors, and comparing what they give.

Each measurement has an interpreter of its own, so that memory is that of one executor, and what starting costs is seen
each time. Repeats are interleaved: whatever else the machine does meanwhile disturbs all of them alike.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import define, field

from mbexec.bench.findings import Bench, Case, Measured, Sample
from mbexec.bench.launching import ask
from mbexec.bench.sampling import Strata
from mbexec.core import engine
from mbexec.core.config import near
from mbexec.core.errors import ConfigError, PluginNotFoundError
from mbexec.core.manager import find_plugin, installed_plugins
from mbexec.core.prepare import prepared
from mbexec.core.resources import granted_cores
from mbexec.validation.agreement import Numbers, difference_between

if TYPE_CHECKING:
    from mbexec.core.settings import RunConfig
    from mbexec.core.types import Plan

__all__ = ["bench"]

_SERIAL = "serial"
_REPEATS = 2  # serial runs that tell whether its bits are the same each time
_NOISE = 10  # three runs show less than what may differ
_BUDGET = 20.0  # s that a serial run may take if nothing is said about samples


def bench(
    job: Path,
    executors: Sequence[str] = (),
    workers: Sequence[int] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    repeat: int = 3,
    sample: int | None = None,
    tell: Callable[[Bench, Case], None] = lambda found, case: None,
    stop: threading.Event | None = None,
) -> Bench:
    """Run a job on executors with numbers of workers, and compare. No store takes part.

    Parameters
    ----------
    job
        A file.
    executors
        Names; all that are installed if empty. Serial runs in any case.
    workers
        From 1 up; if empty 1, 2, 4, ..., and as many as the machine grants.
    settings
        By dotted key.
    repeat
        How often to measure each.
    sample
        Run about so many fragments; 0 for all of them; None for all if that takes no more than 20 s on serial, and
        else for as many as take about that long.
    tell
        Called after each measurement, with all that is known and the case that it belongs to.
    stop
        Set from another thread to end it; what is there is returned.

    Raises
    ------
    InputError, ConfigError, PluginError, ProgramError
        Before anything is measured, if something asked for can't be.
    """
    given = dict(settings or {})
    trial = _Trial(job, given, tell, stop or threading.Event())
    for name in executors:
        _check_name(name, executors)
    spec, config = engine.read_job(job, _plain(given, _SERIAL, 1))
    names = list(dict.fromkeys([_SERIAL, *(executors or _installed())]))
    _check_roles(names)
    numbers = list(dict.fromkeys(workers)) or _powers(config)
    _warn_of_workers(max(numbers), config)
    with prepared(spec, config) as ready:
        plan, program = ready.plan, _program(ready.plan)
    cores = granted_cores(os.environ).amount
    trial.found = Bench(str(job), program, int(plan.runs.sum()), (), load=os.getloadavg()[0], cores=cores)
    trial.settings = _shared(given, config, max(numbers))
    trial.found = attrs.evolve(trial.found, cases=tuple(_cases(names, numbers)), sample=trial.sample(plan, sample))
    trial.run(repeat)
    return trial.found


def _check_name(name: str, executors: Sequence[str]) -> None:
    """Refuse what is misspelt; an executor that could be installed makes a row that says so."""
    here = [plugin.name for plugin in installed_plugins()]
    if name not in here and (near(name, here) or not any(each in here for each in executors)):
        find_plugin(name, "executor")


def _installed() -> list[str]:
    return [plugin.name for plugin in installed_plugins() if "executor" in plugin.roles and not plugin.error]


def _check_roles(names: Sequence[str]) -> None:
    for plugin in installed_plugins():
        if plugin.name in names and not plugin.error and "executor" not in plugin.roles:
            raise ConfigError(
                f"The plugin {plugin.name!r} is no executor. Installed executors: {', '.join(_installed())}."
            )


def _plain(settings: Mapping[str, Any], executor: str, workers: int) -> dict[str, Any]:
    """What a run is told: nothing is kept, nobody hears of it."""
    return {**settings, "run.executor": executor, "run.workers": workers, "run.store": False, "run.reporters": []}


def _shared(settings: Mapping[str, Any], config: RunConfig, workers: int) -> dict[str, Any]:
    """With the memory of a fragment the same on all, so that programs do the same."""
    if not config.sources["task.memory"].startswith("split of"):
        return dict(settings)
    return {**settings, "task.memory": float(f"{config.task.memory / workers:.4g}")}


def _powers(config: RunConfig) -> list[int]:
    most = max(1, int(granted_cores(os.environ).amount // config.task.ncores))
    return sorted({*(2**power for power in range(most.bit_length())), most})


def _warn_of_workers(workers: int, config: RunConfig) -> None:
    granted = granted_cores(os.environ)
    if workers * config.task.ncores > granted.amount:
        each = f" of {config.task.ncores} cores each" if config.task.ncores > 1 else ""
        warnings.warn(
            f"{workers} workers{each} are more than the {granted.amount:.0f} cores that this process is granted "
            f"({granted.source}); they will wait for each other.",
            stacklevel=3,
        )


def _program(plan: Plan) -> str:
    """Model chemistries in words."""
    models = []
    for specification in plan.spec.specification.specification.values():
        basis = f"/{specification.model.basis}" if specification.model.basis else ""
        models.append(f"{specification.program} {specification.model.method}{basis}")
    return ", ".join(dict.fromkeys(models))


def _cases(names: Sequence[str], numbers: Sequence[int]) -> list[Case]:
    """Each executor with each number of workers that it can use; of one that is not installed, how to install it."""
    found: dict[tuple[str, int], Case] = {}
    for name in names:
        most, refused = max(numbers), None
        try:
            most = getattr(find_plugin(name, "executor"), "max_workers", most)
        except PluginNotFoundError as error:
            refused = str(error)
        for number in numbers:
            workers = min(number, most)
            found[name, workers] = Case(name, workers, refused=refused)
    return list(found.values())


@define(eq=False)
class _Trial:
    """Measures a job, serial first: what the others gave is compared with what that gave."""

    job: Path
    settings: dict[str, Any]
    tell: Callable[[Bench, Case], None]
    stop: threading.Event
    found: Bench = field(init=False)
    _expected: list[Numbers] = field(factory=list, init=False)

    def sample(self, plan: Plan, number: int | None) -> Sample | None:
        """The fragments to run; None for all."""
        if number == 0 or (number is not None and number >= self.found.ntasks):
            return None
        strata = Strata.of_plan(plan)
        if number is not None:
            return Sample(strata.sample(number), strata)
        answer = self._ask(_SERIAL, 1, limit=_BUDGET)
        if answer is None or "timing" not in answer:
            return None  # whatever is wrong, the first run tells
        timing = {int(stratum): (count, seconds) for stratum, (count, seconds) in answer["timing"].items()}
        return self._within_budget(strata, strata.times(timing)) if timing else None

    def _within_budget(self, strata: Strata, times: np.ndarray[Any, Any]) -> Sample | None:
        counts = strata.counts
        if float(counts @ times) <= _BUDGET:
            return None
        short = times <= max(_BUDGET / 2, float(times.min()))
        left_out = frozenset(np.flatnonzero(~short).tolist())
        mean = float(counts[short] @ times[short]) / int(counts[short].sum())
        return Sample(strata.sample(max(1, int(_BUDGET / mean)), left_out), strata, left_out)

    def run(self, repeat: int) -> None:
        """Each case in turn, so often; one that something is wrong with is not tried again."""
        for place in list(range(len(self.found.cases))) * repeat:
            case = self.found.cases[place]
            if self.stop.is_set() or self.found.serial.problem:
                break
            if not (case.refused or case.problem):
                self._measure(place)
        self._judge()
        self.found = attrs.evolve(self.found, broken_off=self.stop.is_set())

    def _ask(self, executor: str, workers: int, **wanted: Any) -> dict[str, Any] | None:
        return ask(self.job, _plain(self.settings, executor, workers), self.stop, **wanted)

    def _measure(self, place: int) -> None:
        case, sample = self.found.cases[place], self.found.sample
        places = None if sample is None else sample.places.tolist()
        answer = self._ask(case.executor, case.workers, places=places)
        if answer is None:
            return
        if "runs" not in answer:
            problem = f"{case.name}: {answer['problem']}" if "problem" in answer else None
            self._put(place, attrs.evolve(case, refused=answer.get("refused"), problem=problem))
            return
        given = [{name: np.asarray(value) for name, value in one.items()} for one in answer["numbers"]]
        if place == 0:
            self._expected += given
        start = answer["start"] if math.isnan(case.start) else min(case.start, answer["start"])
        runs = (*case.runs, *map(Measured.of, answer["runs"]))
        self._put(place, self._compared(attrs.evolve(case, runs=runs, start=start), given))

    def _put(self, place: int, case: Case) -> None:
        cases = (*self.found.cases[:place], case, *self.found.cases[place + 1 :])
        self.found = attrs.evolve(self.found, cases=cases)
        self.tell(self.found, case)

    def _compared(self, case: Case, given: Sequence[Numbers]) -> Case:
        """With the greatest difference so far from what serial gave first."""
        for numbers in given if self._expected else ():
            first, difference, differing = difference_between(self._expected[0], numbers)
            if math.isnan(case.difference) or (difference, differing) > (case.difference, case.differing[0]):
                case = attrs.evolve(case, difference=difference, differing=(differing, first))
        return case

    def _judge(self) -> None:
        """Say of each difference whether something is wrong, or the program gives other bits each time."""
        wrong = [place for place, case in enumerate(self.found.cases) if case.differing[0]]
        if not wrong:
            return
        for _ in range(_REPEATS if len(self.found.serial.runs) <= _REPEATS else 0):
            if not self.stop.is_set():
                self._measure(0)
        spread = max(difference_between(one, other)[1] for one in self._expected for other in self._expected)
        self.found = attrs.evolve(self.found, spread=spread)
        cases = [_judged(case, spread) for case in self.found.cases]
        self.found = attrs.evolve(self.found, cases=tuple(cases))


def _judged(case: Case, spread: float) -> Case:
    number, first = case.differing
    if not number or 0 < spread >= case.difference / _NOISE:
        return case
    told = f"{first} is not serial's"
    told += f", nor are {number - 1} other numbers, by up to" if number > 1 else ", by"
    repeats = f"repeated serial runs differ by {spread:.1e}" if spread else "repeated serial runs give the same bits"
    return attrs.evolve(case, problem=f"{case.name}: {told} {case.difference:.1e}; {repeats}.")
