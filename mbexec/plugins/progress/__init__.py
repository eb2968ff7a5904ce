"""The progress reporter: how far the run is and how long it still takes, for a person who waits."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from functools import partial
from typing import Self, TextIO

from attrs import define, field, validators
from rich.console import Console, RenderableType
from rich.live import Live

from mbexec import FragmentDone, MetricsEvent, RunDone, RunStarted, hookimpl
from mbexec.plugins.progress.display import LONGEST, drawn
from mbexec.plugins.progress.state import State
from mbexec.plugins.progress.words import span

__all__ = ["Progress"]

_REFRESHES = 1.0  # a second
_NAMED = 3


@define(eq=False)
class Progress:
    """A bar for each nbody on a terminal; elsewhere a line now and then.

    Events are only noted; a thread draws what they amount to once a second, and the lines are written when they
    are due. How the time left is estimated stands in :class:`mbexec.plugins.progress.estimate.Estimate`.

    Attributes
    ----------
    interval
        Seconds between lines where there is no terminal. When no result arrives, a line says what has been running
        after twice that time, and then after twice the time each.
    """

    interval: float = field(default=10.0, validator=[validators.instance_of((int, float)), validators.ge(0)])
    _stream: TextIO = field(factory=lambda: sys.stderr, init=False)
    _state: State | None = field(default=None, init=False)
    _began: float = field(default=0.0, init=False)
    _spoke: float = field(default=0.0, init=False)
    _live: Live | None = field(default=None, init=False)
    _ended: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Nothing to do until the run starts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was, however the run ended."""
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        if self._thread is not None:
            self._thread.join()

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Count one event."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif self._state is not None:
            self._state.take(event)
            if self._live is None and self._is_due(event):
                self._say()

    def _is_due(self, event: MetricsEvent) -> bool:
        """Whether it is time for a line."""
        if isinstance(event, FragmentDone):
            return time.monotonic() - self._spoke > self.interval
        return isinstance(event, RunDone)

    def _start(self, event: RunStarted) -> None:
        self._state = State(event)
        self._began = self._spoke = time.monotonic()
        if event.store:
            self._stream.write(f"Store {event.store.removeprefix(_here())}\n")
        console = Console(file=self._stream)
        if self._stream.isatty() and not console.is_dumb_terminal:
            self._live = Live(
                console=console,
                get_renderable=partial(self._drawn, console),
                refresh_per_second=_REFRESHES,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
        else:
            total = sum(ntasks for _, ntasks in event.levels)
            self._stream.write(f"{total} fragment calculations on {event.executor}, workers: {event.workers}\n")
            self._stream.flush()
            self._thread = threading.Thread(target=self._speak_when_it_is_quiet, name="mbexec-progress", daemon=True)
            self._thread.start()

    def _drawn(self, console: Console) -> RenderableType:
        assert self._state is not None
        ended = self._ended.is_set()
        seen = self._state.seen(LONGEST, exact=ended)
        elapsed = time.monotonic() - self._began
        return drawn(seen, elapsed, self._state.event.workers, console.width, ended=ended)

    def _say(self) -> None:
        assert self._state is not None
        self._spoke = time.monotonic()
        seen = self._state.seen(_NAMED, exact=True)
        count, left = seen.all, seen.outlook.left
        told = f"{count.done} of {count.total} fragment calculations done"
        if count.done < count.total:
            told += f" ({int(100 * seen.outlook.share)}% of the time)"
        told += f", {count.reused} reused" if count.reused else ""
        told += f", {count.failed} failed" if count.failed else ""
        told += f", {count.left_out} left out" if count.left_out else ""
        if count.done < count.total and left is not None:
            told += f"; {'at most about' if seen.undecided else 'about'} {span(math.ceil(left))} left"
        if long := [f"{each.label} for {span(each.seconds)}" for each in seen.longest if each.seconds >= self.interval]:
            told += f"; running: {', '.join(long)}"
        self._stream.write(f"{told}\n")
        self._stream.flush()

    def _speak_when_it_is_quiet(self) -> None:
        """Nothing else would tell of fragments that don't end."""
        least = pause = 2 * max(self.interval, 1.0)
        spoke = self._spoke
        while not self._ended.wait(pause):
            pause = 2 * pause if self._spoke == spoke else least
            if self._spoke == spoke:
                self._say()
            spoke = self._spoke


def _here() -> str:
    """What the names of files begin with that are in the working directory or below."""
    try:
        return os.path.join(os.getcwd(), "")
    except OSError:  # it is gone
        return ""
