"""Counts what happens during a run, for whoever shows it."""

from __future__ import annotations

import threading
import time
from collections import deque
from copy import copy

import attrs
from attrs import define, field, frozen

from mbexec import FragmentDone, FragmentHeld, FragmentStarted, MetricsEvent, RunStarted, Task, TasksLeftOut
from mbexec.plugins.progress.estimate import Estimate, Outlook
from mbexec.plugins.progress.words import short

__all__ = ["Count", "Running", "Seen", "State"]

_MANY = 32  # events that are counted together: fewer would take longer each, and more much memory
_REST = 50  # times as long as the last estimate took: no more than a fiftieth of the time goes into estimates


@define
class Count:
    """Fragments by what became of them: how many are needed, ran, came from a store, and failed of those that ran.

    Those that the planner has left out are not needed.
    """

    total: int = 0
    ran: int = 0
    reused: int = 0
    failed: int = 0
    left_out: int = 0

    @property
    def done(self) -> int:
        """Those that ran or came from a store."""
        return self.ran + self.reused


@frozen
class Running:
    """A fragment that runs: its label in short, for how many seconds, and how many were expected if that is known."""

    label: str
    seconds: float
    expected: float | None


@frozen
class Seen:
    """A run at some moment: counts by nbody, how far it is, and the fragments that have been running longest.

    As long as it is `undecided`, some of the fragments may be left out.
    """

    counts: dict[int, Count]
    outlook: Outlook
    running: int
    longest: tuple[Running, ...]
    undecided: bool = False

    @property
    def all(self) -> Count:
        """Sums over all nbody."""
        of = self.counts.values()
        return Count(*(sum(getattr(count, name) for count in of) for name in attrs.fields_dict(Count)))


@define(eq=False)
class State:
    """Takes events from any thread, and only notes them; what follows from that is worked out when it is to be seen."""

    event: RunStarted
    _counts: dict[int, Count] = field(init=False)
    _estimate: Estimate = field(init=False)
    _noted: deque[MetricsEvent] = field(factory=deque, init=False)
    _running: dict[int, tuple[Task, float]] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _outlook: Outlook | None = field(default=None, init=False)
    _due: float = field(default=0.0, init=False)
    _undecided: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = {nbody: Count(ntasks) for nbody, ntasks in self.event.levels}
        self._undecided = bool(self.event.plan.undecided.any())
        self._estimate = Estimate(self.event.plan, self.event.costs, self.event.workers)

    def take(self, event: MetricsEvent) -> None:
        """Note an event, and no more: counted together, many cost less than one by one."""
        self._noted.append(event)
        if len(self._noted) >= _MANY:
            with self._lock:
                self._count()

    def _count(self) -> None:
        while self._noted:
            event = self._noted.popleft()
            if isinstance(event, FragmentDone):
                self._done(event)
            elif isinstance(event, FragmentStarted):
                self._running.setdefault(event.task.index, (event.task, event.time))  # of several runs, the first
                self._estimate.began(event.time)
            elif isinstance(event, FragmentHeld):
                self._running.pop(event.task.index, None)
                self._estimate.tried(event.started, event.ended)
            elif isinstance(event, TasksLeftOut):
                self._leave_out(event)

    def _done(self, event: FragmentDone) -> None:
        index = event.task.index
        self._running.pop(index, None)
        count = self._counts[event.task.nbody]
        if event.reused:
            count.reused += 1
            self._estimate.reused(index)
        else:
            count.ran += 1
            count.failed += event.result.error is not None
            self._estimate.ran(index, event.result.worker, event.started, event.ended)

    def _leave_out(self, event: TasksLeftOut) -> None:
        self._undecided = False
        self._estimate.left_out(event.indices)
        for nbody, count in event.levels:
            self._counts[nbody].total -= count
            self._counts[nbody].left_out = count

    def seen(self, most: int, *, exact: bool = False) -> Seen:
        """How it looks, with no more running fragments than that; `exact` to estimate anew, however long it takes."""
        with self._lock:
            self._count()
            now, clock = time.time(), time.perf_counter()
            if exact or self._outlook is None or clock > self._due:
                begun = {index: start for index, (_, start) in self._running.items()}
                self._outlook = self._estimate.outlook(now, begun)
                self._due = time.perf_counter() + _REST * (time.perf_counter() - clock)
            counts = {nbody: copy(count) for nbody, count in self._counts.items()}
            longest = sorted(self._running.values(), key=lambda each: each[1])[:most]
            mcs = len(self.event.plan.expansion.mcs)
            running = (Running(short(t, mcs), now - start, self._estimate.expected(t.index)) for t, start in longest)
            return Seen(counts, self._outlook, len(self._running), tuple(running), self._undecided)
