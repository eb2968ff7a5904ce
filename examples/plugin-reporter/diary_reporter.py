"""A reporter that keeps a diary: a line for each event, in a file."""

from __future__ import annotations

from typing import IO, Self

from attrs import define, field

from mbexec import FragmentDone, LevelDone, LevelStarted, MetricsEvent, RunDone, RunStarted, hookimpl


@define(eq=False)
class Diary:
    """Writes down what happens.

    Attributes
    ----------
    path
        Of the file, which is written anew.
    """

    path: str
    _file: IO[str] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._file = open(self.path, "w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """One event, one line; those of no interest pass."""
        match event:
            case RunStarted():
                line = f"{event.executor} begins with {event.workers} workers"
            case LevelStarted():
                line = f"{event.nbody}-body begins: {event.ntasks} fragments"
            case FragmentDone() if event.result.error is not None:
                line = f"{event.task.label} failed: {event.result.error.error_message}"
            case FragmentDone():
                line = f"{event.task.label} {event.result.values['energy']:.12f}"
            case LevelDone():
                line = f"{event.level.nbody}-body ends: {event.level.failed} failed"
            case RunDone():
                line = f"the run ends: {event.report.ntasks} fragments"
            case _:
                return
        print(line, file=self._file)
