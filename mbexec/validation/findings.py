"""What a validation found, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mbexec.validation.systems import Check, System

if TYPE_CHECKING:
    from mbexec.core.metrics import RunReport

__all__ = ["Executor", "Outcome", "Tried", "Validation"]


@frozen
class Executor:
    """An installed executor.

    Attributes
    ----------
    name, distribution, version
        Of the plugin, and where it is from.
    says
        What it declares of itself: isolates_processes, can_kill, survives_worker_death.
    problem
        Why it can't be used, else None.
    """

    name: str
    distribution: str
    version: str
    says: tuple[str, ...] = ()
    problem: str | None = None


@frozen(eq=False)
class Tried:
    """A system on an executor.

    Attributes
    ----------
    executor
        Its name.
    report
        What the run cost; None if there was none.
    start
        Wall time of a run of the monomers before it, which starts workers and loads the program there, s.
    difference
        The greatest difference of any number from serial's; 0.0 means the same bits.
    spread
        The greatest difference between repeated serial runs; None if there was no need to know.
    refused
        Why the executor does not run this program, else None.
    problem
        What is wrong, as a sentence, else None.
    """

    executor: str
    report: RunReport | None = None
    start: float = math.nan
    difference: float = math.nan
    spread: float | None = None
    refused: str | None = None
    problem: str | None = None

    @property
    def rate(self) -> float:
        """Fragment calculations per second of wall time."""
        return self.report.ntasks / self.report.wall_time if self.report else math.nan

    @property
    def beyond(self) -> float:
        """Workers' time for each fragment that its program did not take: handing out, waiting, adding up; s."""
        if self.report is None:
            return math.nan
        inside = sum(level.wall_time for level in self.report.levels)
        return (self.report.workers * self.report.wall_time - inside) / self.report.ntasks


@frozen(eq=False)
class Outcome:
    """A system on all executors.

    Attributes
    ----------
    system, version
        What was run, and the program's version.
    tried
        On each executor, serial first.
    checks
        Of what serial gave.
    """

    system: System
    version: str
    tried: tuple[Tried, ...]
    checks: tuple[Check, ...] = ()

    def speed(self, tried: Tried) -> float:
        """How many times as fast as serial; NaN where one of the two did not run."""
        return tried.rate / self.tried[0].rate


@frozen(eq=False)
class Validation:
    """Everything that was found.

    Attributes
    ----------
    executors
        Installed ones, serial first.
    outcomes
        Of each system whose program is installed.
    missing
        Systems whose program is not, and how to install it.
    checks
        Of programs against each other.
    load
        How many processes wanted to run before this began, on average over a minute.
    """

    executors: tuple[Executor, ...]
    outcomes: tuple[Outcome, ...]
    missing: Mapping[System, str]
    checks: tuple[Check, ...]
    load: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty if the installation is right."""
        parts: list[Any] = [*self.executors]
        for outcome in self.outcomes:
            parts += [*outcome.tried, *outcome.checks]
        return [part.problem for part in (*parts, *self.checks) if part.problem]
