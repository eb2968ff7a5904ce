"""How far a run got, for its last line."""

from __future__ import annotations

from attrs import define, field

from mbexec import FragmentDone, MetricsEvent, RunStarted, TasksLeftOut

__all__ = ["Count"]


@define
class Count:
    """Counts the results of a run as they come, for its last line if it is interrupted.

    Attributes
    ----------
    kept
        Whether there is a store.
    """

    kept: bool
    total: int | None = field(default=None, init=False)
    done: int = field(default=0, init=False)

    def __call__(self, event: MetricsEvent) -> None:
        """Take note of an event."""
        if isinstance(event, RunStarted):
            self.total = sum(ntasks for _, ntasks in event.levels)
        elif isinstance(event, TasksLeftOut) and self.total is not None:
            self.total -= len(event.indices)
        elif isinstance(event, FragmentDone) and event.result.error is None:
            self.done += 1

    def has_begun(self) -> bool:
        """Whether a fragment may have begun."""
        return self.total is not None

    def words(self) -> str:
        """How far the run got, and how it goes on."""
        if not self.has_begun():
            return "Interrupted."
        again = " The same command goes on from there." if self.kept else ""
        return f"Interrupted: {self.done} of {self.total} fragment calculations are done.{again}"
