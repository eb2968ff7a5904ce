"""The progress reporter: how far the run is, for a person who waits."""

from __future__ import annotations

import sys
import time
from typing import Any, Self, TextIO

from attrs import define, field, validators
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mbexec import FragmentDone, MetricsEvent, RunDone, RunStarted, hookimpl

__all__ = ["Progress"]


@define(eq=False)
class Progress:
    """A bar for each nbody on a terminal; elsewhere a line now and then.

    Attributes
    ----------
    interval
        Seconds between lines where there is no terminal.
    """

    interval: float = field(default=10.0, validator=[validators.instance_of((int, float)), validators.ge(0)])
    _stream: TextIO = field(factory=lambda: sys.stderr, init=False)
    _bar: Bar | None = field(default=None, init=False)
    _rows: dict[int, Any] = field(factory=dict, init=False)
    _total: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _spoke: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        """Nothing to do until the run starts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was, however the run ended."""
        if self._bar is not None:
            self._bar.stop()

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self._start(event)
            case FragmentDone():
                self._advance(event)
            case RunDone() if self._bar is None:
                self._say()

    def _start(self, event: RunStarted) -> None:
        self._total = sum(ntasks for _, ntasks in event.levels)
        self._spoke = time.monotonic()
        if event.store:
            self._stream.write(f"Store {event.store}\n")
        console = Console(file=self._stream)
        if not console.is_terminal:
            self._stream.write(f"{self._total} fragment calculations on {event.executor}, workers: {event.workers}\n")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, TextColumn("{task.fields[note]}"), console=console)
        for nbody, ntasks in event.levels:
            self._rows[nbody] = self._bar.add_task(f"{nbody}-body", total=ntasks, note="")
        self._bar.start()

    def _advance(self, event: FragmentDone) -> None:
        self._done += 1
        self._failed += event.result.error is not None
        if self._bar is not None:
            self._bar.advance(self._rows[event.task.nbody])
            if event.result.error is not None:
                self._bar.update(self._rows[event.task.nbody], note=f"[red]{self._failed} failed in all")
        elif time.monotonic() - self._spoke > self.interval:
            self._say()

    def _say(self) -> None:
        self._spoke = time.monotonic()
        failed = f", {self._failed} failed" if self._failed else ""
        self._stream.write(f"{self._done} of {self._total} fragment calculations done{failed}\n")
        self._stream.flush()
