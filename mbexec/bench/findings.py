"""What a bench found, as data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from mbexec.bench.sampling import Strata, Timing
from mbexec.core.metrics import LevelReport, RunReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bench", "Case", "Measured", "Sample"]

_BUSY = 0.5  # of the cores


@frozen(eq=False)
class Sample:
    """The fragments that ran in place of all.

    Attributes
    ----------
    places : (n,) int array
        In the plan.
    strata
        What they stand for.
    left_out
        Strata of which none ran, since one fragment would take too long.
    """

    places: NDArray[np.int64]
    strata: Strata
    left_out: frozenset[int] = frozenset()


@frozen(eq=False)
class Measured:
    """One run of the job, or of a sample of it.

    Attributes
    ----------
    report
        What it cost.
    timing
        Of a sample, what the fragments of each stratum took.
    tail
        Of a sample, the time that workers had nothing more to do while others finished, summed over workers, s.
    """

    report: RunReport
    timing: Timing = attrs.field(factory=dict)
    tail: float = 0.0

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Measured:
        """From JSON."""
        timing = {int(stratum): (number, seconds) for stratum, (number, seconds) in answer.get("timing", {}).items()}
        return cls(_report(answer["report"]), timing, answer.get("tail", 0.0))


def _report(given: dict[str, Any]) -> RunReport:
    """The inverse of ``RunReport.as_dict()``."""
    fields = {name: given[name] for name in attrs.fields_dict(RunReport)}
    fields["levels"] = tuple(LevelReport(**level) for level in given["levels"])
    fields["bytes_moved"] = tuple(given["bytes_moved"]) if given["bytes_moved"] else None
    return RunReport(**fields)


@frozen(eq=False)
class Case:
    """The job on one executor with one number of workers.

    Attributes
    ----------
    executor, workers
        The workers that were asked for.
    runs
        As far as they went.
    start
        What the first run in a fresh interpreter took beyond a second one: to start that, to read the job, to start
        workers, to load the program; s.
    difference
        The greatest difference of any number from serial's; 0.0 means the same bits.
    differing
        How many numbers differ, and the first of them.
    refused
        Why the executor does not run this job here, else None.
    problem
        What is wrong, as a sentence, else None.
    """

    executor: str
    workers: int
    runs: tuple[Measured, ...] = ()
    start: float = math.nan
    difference: float = math.nan
    differing: tuple[int, str] = (0, "")
    refused: str | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.executor} with {self.workers} worker{'s' * (self.workers != 1)}"

    @property
    def best(self) -> Measured | None:
        """The fastest of the runs: the least disturbed one."""
        return min(self.runs, key=lambda run: run.report.wall_time, default=None)

    @property
    def wall(self) -> float:
        """Of the fastest run, s."""
        return self.best.report.wall_time if self.best else math.nan

    @property
    def slowest(self) -> float:
        """Wall time of the slowest run, s."""
        return max((run.report.wall_time for run in self.runs), default=math.nan)

    @property
    def beyond(self) -> float:
        """Workers' time for each fragment that its program did not take, s: handing out, adding up, waiting."""
        if self.best is None:
            return math.nan
        report = self.best.report
        return (report.workers * report.wall_time - report.fragment_time) / report.executed

    @property
    def fragment(self) -> float:
        """Wall time of a fragment, on average, s."""
        return self.best.report.fragment_time / self.best.report.executed if self.best else math.nan

    def of_report(self, name: str) -> float:
        """A figure of the fastest run; NaN where it was not measured."""
        value = getattr(self.best.report, name) if self.best else None
        return math.nan if value is None else float(value)


@frozen(eq=False)
class Bench:
    """Everything that was found.

    Attributes
    ----------
    job, program
        What ran.
    ntasks
        Fragment calculations of the whole job.
    cases
        Serial first.
    sample
        None if all of the fragments ran.
    spread
        The greatest difference between repeated serial runs; None if there was no need to know.
    load, cores
        How many processes wanted to run before this began, on average over a minute; and how many cores there are for
        this one.
    broken_off
        Whether it was told to stop before its end.
    """

    job: str
    program: str
    ntasks: int
    cases: tuple[Case, ...]
    sample: Sample | None = None
    spread: float | None = None
    load: float = 0.0
    cores: float = math.inf
    broken_off: bool = False

    @property
    def serial(self) -> Case:
        """What the others are compared with."""
        return self.cases[0]

    @property
    def busy(self) -> bool:
        """Whether the machine had so much else to do that times mean little."""
        return self.load > _BUSY * self.cores

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each."""
        return [case.problem for case in self.cases if case.problem]

    def speedup(self, case: Case) -> float:
        """Serial's wall time over this one's; of a sample, that of the whole job, as predicted."""
        return self.expected(self.serial) / self.expected(case)

    def stretch(self, case: Case) -> float:
        """How many times longer a fragment took than on serial."""
        return case.fragment / self.serial.fragment

    def efficiency(self, case: Case) -> float:
        """Speedup per worker."""
        return self.speedup(case) / case.workers

    def expected(self, case: Case) -> float:
        """Wall time of the whole job, s: measured, or predicted from the sample.

        Predicted from what fragments of each stratum took on this executor, and from what it cost beyond that for each
        fragment, but for waiting for the last ones; it is no less than the longest fragment takes.
        """
        if self.sample is None or case.best is None:
            return case.wall
        run, report = case.best, case.best.report
        times = self.sample.strata.times(run.timing)
        beyond = (report.workers * report.wall_time - report.fragment_time - run.tail) / report.executed
        inside = float(self.sample.strata.counts @ times)
        return max(float(times.max()), (inside + self.ntasks * max(0.0, beyond)) / report.workers)
