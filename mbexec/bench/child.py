"""What a fresh interpreter does in which a job is measured on one executor.

It is given a folder with ``request.json`` and leaves its answer there, as ``answer.json``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import define, field

from mbexec.bench.sampling import Strata
from mbexec.core import engine
from mbexec.core.errors import ConfigError, MbexecError
from mbexec.core.loop import Run
from mbexec.core.messages import gist
from mbexec.core.prepare import prepared
from mbexec.validation.agreement import Numbers, difference_between, failure_in, numbers_of

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

    from mbexec.core.metrics import RunReport
    from mbexec.core.settings import RunConfig
    from mbexec.core.types import Plan, TaskResult

__all__ = ["main"]

_TIMED, _MOST = 0.5, 5  # s of wall time, and runs: short ones are repeated
_LONG = 10.0  # s; a first run that takes so long is not made again to learn how much of it was not the fragments'


def main(folder: str) -> None:
    """Measure what the request asks for."""
    _end_with_parent()
    place = Path(folder)
    request = json.loads((place / "request.json").read_text(encoding="utf-8"))
    (place / "answer.json").write_text(json.dumps(_answer(request)), encoding="utf-8")


def _end_with_parent() -> None:
    """When the other end of standard input is closed, end with all that was started; programs get no such input."""
    watched = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    threading.Thread(target=_wait_for_end, args=(watched,), daemon=True).start()


def _wait_for_end(watched: int) -> None:
    os.read(watched, 1)
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """What was measured, or why nothing could be."""
    try:
        return _Measurement.of(request).answer()
    except ConfigError as error:
        return {"refused": str(error)}
    except MbexecError as error:
        return {"problem": str(error)}
    except Exception as error:  # whatever is wrong with a program: it is what people want to know
        return {"problem": f"{type(error).__name__}: {error}"}


@define(eq=False)
class _Measurement:
    """A job, and what is asked about it."""

    request: dict[str, Any]
    spec: ManyBodyInput
    config: RunConfig
    strata: Strata | None = field(default=None, init=False)
    _stop: threading.Event = field(factory=threading.Event, init=False)

    @classmethod
    def of(cls, request: dict[str, Any]) -> _Measurement:
        """Read the job."""
        spec, config = engine.read_job(request["job"], request["settings"], to_run=True)
        # What was computed before would spoil the times.
        return cls(request, spec, attrs.evolve(config, run=attrs.evolve(config.run, store=None, reporters=())))

    def answer(self) -> dict[str, Any]:
        """How long fragments of each kind take if there is a time limit; else runs, and what they gave."""
        if self.request["limit"] is not None:
            return {"timing": self._probe(self.request["limit"])}
        start = self._start()
        places = self.request["places"]
        measure = self._whole if places is None else lambda: self._part(np.array(places, dtype=np.int64))
        return {"start": start, **_repeated(measure)}

    def _probe(self, limit: float) -> dict[int, tuple[int, float]]:
        """Wall time of one fragment of each stratum, from the cheapest up, until the time is over."""
        with prepared(self.spec, self.config) as ready:
            strata = Strata.of_plan(ready.plan)
            Run(ready, self._stop).sampled(strata.cheapest(1))
            found = {}
            end = time.perf_counter() + limit
            for place in strata.first():
                with closing(Run(ready, self._stop).computed(np.array([place]))) as results:
                    found.update({int(strata.of[place]): (1, result.wall_time) for result in results})
                if time.perf_counter() > end:
                    break
            return found

    def _start(self) -> float:
        """Seconds from before this interpreter was started that a second run would not have taken."""
        with prepared(self.spec, self.config) as ready:
            places = Strata.of_plan(ready.plan).cheapest(ready.work.workers)
            results, _ = Run(ready, self._stop).sampled(places)
            first: float = time.time() - self.request["launched"]
            if first > _LONG:
                return first - max(result.wall_time for result in results)
            before = time.perf_counter()
            Run(ready, self._stop).sampled(places)
            return max(0.0, first - (time.perf_counter() - before))

    def _whole(self) -> tuple[dict[str, Any], Numbers]:
        found = engine.execute(self.spec, self.config)
        if not found.result.success:
            raise MbexecError(failure_in(found))
        return {"report": found.report.as_dict()}, numbers_of(found)

    def _part(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[dict[str, Any], Numbers]:
        with prepared(self.spec, self.config) as ready:
            results, report = Run(ready, self._stop).sampled(places)
            if failed := [result for result in results if result.error is not None]:
                raise MbexecError(_failed(ready.plan, failed, len(results)))
            self.strata = self.strata or Strata.of_plan(ready.plan)
            measured = {
                "report": report.as_dict(),
                "timing": _timing(self.strata, results),
                "tail": _tail(results, report),
            }
            return measured, _numbers_of_part(ready.plan, results)


def _failed(plan: Plan, failed: Sequence[TaskResult], total: int) -> str:
    first = failed[0]
    said = gist(first.error.error_message) if first.error else ""
    return f"{len(failed)} of {total} fragment calculations failed, the first of them {plan[first.index].label}: {said}"


def _repeated(measure: Callable[[], tuple[dict[str, Any], Numbers]]) -> dict[str, Any]:
    """Runs of a job, and what they gave, each answer that differs once."""
    runs: list[dict[str, Any]] = []
    given: list[Numbers] = []
    while not runs or (sum(run["report"]["wall_time"] for run in runs) < _TIMED and len(runs) < _MOST):
        run, numbers = measure()
        runs.append(run)
        if not any(difference_between(other, numbers)[2] == 0 for other in given):
            given.append(numbers)
    plain = [{name: value.tolist() for name, value in numbers.items()} for numbers in given]
    return {"runs": runs, "numbers": plain}


def _timing(strata: Strata, results: Iterable[TaskResult]) -> dict[int, tuple[int, float]]:
    found: dict[int, tuple[int, float]] = {}
    for result in results:
        stratum = int(strata.of[result.index])
        number, seconds = found.get(stratum, (0, 0.0))
        found[stratum] = number + 1, seconds + result.wall_time
    return found


def _tail(results: Sequence[TaskResult], report: RunReport) -> float:
    """Time that workers had nothing more to do while others finished, summed over workers, s."""
    last: dict[str, float] = {}
    for result in results:
        last[result.worker] = max(last.get(result.worker, 0.0), result.ended)
    latest = sorted(last.values())[-report.workers :]
    return sum(latest[-1] - ended for ended in latest)


def _numbers_of_part(plan: Plan, results: Iterable[TaskResult]) -> Numbers:
    """Every number of the fragments, in the plan's order."""
    found = sorted(results, key=lambda result: result.index)
    return {
        f"the {name} of {plan[result.index].label}": np.asarray(value)
        for result in found
        for name, value in result.values.items()
    }
