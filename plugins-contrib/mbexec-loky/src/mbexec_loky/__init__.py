"""The loky executor: fragments in reusable worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from attrs import define, field, validators

from mbexec import Level, TaskResult, Work, hookimpl
from mbexec_loky import slots
from mbexec_loky.flow import Flow, Settings

__all__ = ["Loky"]

_positive: Any = [validators.instance_of((int, float)), validators.gt(0)]


@define(eq=False)
class Loky:
    """Runs fragments in processes that stay warm between levels and runs, and that may die.

    Attributes
    ----------
    chunk_time
        Seconds of work to have waiting with a worker.
    idle_timeout
        Seconds that idle workers are kept.
    recycle_after
        Replace a worker that has run so many fragments.
    recycle_memory
        Replace a worker that holds more memory than this, MiB.
    """

    isolates_processes: ClassVar[bool] = True
    can_kill: ClassVar[bool] = True
    survives_worker_death: ClassVar[bool] = True

    chunk_time: float = field(default=0.05, validator=_positive)
    idle_timeout: float = field(default=60, validator=_positive)
    recycle_after: int | None = field(
        default=None, validator=validators.optional([validators.instance_of(int), validators.ge(1)])
    )
    recycle_memory: float | None = field(default=None, validator=validators.optional(_positive))
    _traffic: slots.Traffic = field(factory=slots.Traffic, init=False)

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """To workers, and from them."""
        return self._traffic.sent, self._traffic.received

    @staticmethod
    def start() -> None:
        """Start what takes time in starting a worker, while a run's input is being read."""
        slots.prepare()

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Send tasks as workers become free, a few ahead of each."""
        settings = Settings(self.chunk_time, self.idle_timeout, self.recycle_after, self.recycle_memory)
        return Flow(level, work, settings, self._traffic).results()
