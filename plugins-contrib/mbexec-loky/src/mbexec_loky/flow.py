"""A level on its way through worker processes: what is sent, what comes back, and what happens to those that die."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from math import ceil, inf
from select import POLLIN, poll
from typing import Any

import structlog
from attrs import define, field, frozen

from mbexec import ExecutorError, Level, Task, TaskError, TaskResult, Work
from mbexec.processes import ending
from mbexec_loky.slots import Slot, Traffic, discard, give_back, lease
from mbexec_loky.worker import FAILED, NEED, READY

__all__ = ["Flow", "Settings"]

_LARGEST_WINDOW = 256
_MOST_FALSE_STARTS = 20
_REST = 0.003  # s


@frozen
class Settings:
    """Those of ``[plugin.loky]``."""

    chunk_time: float
    idle_timeout: float
    recycle_after: int | None
    recycle_memory: float | None


@define(eq=False)
class _Seat:
    """A worker's place in a level.

    Attributes
    ----------
    slot
        The worker that holds it.
    ready
        Whether it has the programs of this run.
    tasks
        What was sent to it and has not come back, in order: it runs the first.
    since
        When it started on the first of them, as far as is known here.
    told
        The last of them that was told to have begun.
    """

    slot: Slot
    ready: bool = False
    tasks: deque[Task] = field(factory=deque)
    since: float = 0.0
    told: Task | None = None


@define(eq=False)
class Flow:
    """Tasks go to workers a window at a time, whose size follows the measured time of a task."""

    level: Level
    work: Work
    settings: Settings
    traffic: Traffic
    _seats: list[_Seat] = field(factory=list, init=False)
    _poll: Any = field(factory=poll, init=False)
    _watched: dict[int, _Seat] = field(factory=dict, init=False)
    _again: deque[Task] = field(factory=deque, init=False)
    _pulled: int = field(default=0, init=False)
    _typical: float = field(default=0.0, init=False)
    _window: int = field(default=1, init=False)
    _false_starts: int = field(default=0, init=False)

    def results(self) -> Iterator[TaskResult]:
        """Every result, the moment it is there. Closed early, what runs is killed."""
        try:
            for _ in range(min(self.work.workers, len(self.level))):
                self._seat()
            came: list[TaskResult] = []
            while True:
                for seat in list(self._seats):
                    self._feed(seat)
                self._tell_what_runs()
                yield from came  # workers have their next tasks by then, however long the caller takes over these
                if self._is_done():
                    return
                came = list(self._heard())
        finally:
            self._leave()

    def _is_done(self) -> bool:
        pending = self._again or any(seat.tasks for seat in self._seats)
        return not pending and (self.level.draining or self._pulled == len(self.level))

    def _tell_what_runs(self) -> None:
        """What is new at the head of each worker's tasks; short ones that came and went meanwhile are left out."""
        for seat in self._seats:
            if seat.tasks and seat.tasks[0] is not seat.told:
                seat.told = seat.tasks[0]
                self.work.began(seat.told)

    def _seat(self) -> None:
        seat = _Seat(lease())
        seat.slot.traffic = self.traffic
        self._seats.append(seat)
        for descriptor in (seat.slot.connection.fileno(), seat.slot.watch):
            self._watched[descriptor] = seat
            self._poll.register(descriptor, POLLIN)
        seat.slot.begin(self.work, self.settings.idle_timeout)

    def _unseat(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        for descriptor in (seat.slot.connection.fileno(), seat.slot.watch):
            del self._watched[descriptor]
            self._poll.unregister(descriptor)

    def _leave(self) -> None:
        """Warm workers wait for the next level; what still runs is killed: nobody waits for it any more."""
        for seat in list(self._seats):
            self._unseat(seat)
            if seat.tasks or not seat.ready:
                seat.slot.kill()
                discard(seat.slot)
            else:
                give_back(seat.slot)

    def _feed(self, seat: _Seat) -> None:
        """Keep a worker's next tasks with it, fewer when few are left, so that all end at about the same time."""
        if not seat.ready:
            return
        left = len(self.level) - self._pulled
        window = min(self._window, max(1, left // (2 * self.work.workers)))
        if len(seat.tasks) > window // 2:
            return
        if self._is_worn(seat):
            if not seat.tasks and (left or self._again):
                self._replace(seat)
            return
        room = window - len(seat.tasks)
        if self.settings.recycle_after is not None:
            room = min(room, self.settings.recycle_after - seat.slot.ran - len(seat.tasks))
        if tasks := self._next(room):
            self._send(seat, tasks)

    def _next(self, most: int) -> list[Task]:
        """Tasks to send: innocent ones of a dead worker, then new ones."""
        tasks = [self._again.popleft() for _ in range(min(most, len(self._again)))]
        pulled = list(islice(self.level, most - len(tasks)))
        self._pulled += len(pulled)
        return tasks + pulled

    def _send(self, seat: _Seat, tasks: list[Task]) -> None:
        if not seat.tasks:
            seat.since = time.monotonic()
        seat.tasks.extend(tasks)
        seat.slot.send([(task.index, task.mc, task.frag, task.bas) for task in tasks])
        wanted = self.settings.chunk_time / max(self._typical, 1e-6) if self._typical else 1
        self._window = int(min(max(1, wanted), 2 * self._window, _LARGEST_WINDOW))

    def _is_worn(self, seat: _Seat) -> bool:
        most, memory = self.settings.recycle_after, self.settings.recycle_memory
        if most is not None and seat.slot.ran + len(seat.tasks) >= most:
            return True
        return memory is not None and seat.slot.ran > 0 and seat.slot.memory() > memory

    def _replace(self, seat: _Seat) -> None:
        self._unseat(seat)
        discard(seat.slot)
        self._seat()

    def _heard(self) -> Iterator[TaskResult]:
        """Wait until something happens, and deal with it."""
        if self._may_rest():
            time.sleep(_REST)
        events = self._poll.poll(self._patience())
        # Looked up at once: a worker that is replaced below may leave its descriptors' numbers to the next one.
        happened = [(self._watched[descriptor], descriptor) for descriptor, _ in events]
        for seat, descriptor in happened:
            if seat not in self._seats:
                continue
            if descriptor == seat.slot.watch:
                yield from self._lost(seat)
            else:
                yield from self._answered(seat)
        for seat in list(self._seats):
            if self._left(seat) <= 0 and not seat.slot.has_answered():
                yield from self._lost(seat, late=True)

    def _may_rest(self) -> bool:
        """Whether every worker has enough to do: to wake up for each result of a short task takes time from workers."""
        fewest = min(len(seat.tasks) for seat in self._seats)
        return fewest * self._typical > 2 * _REST and self._window > 1

    def _left(self, seat: _Seat) -> float:
        """Seconds until a worker's task has taken too long."""
        timeout = self.work.settings(seat.tasks[0]).timeout if seat.tasks else None
        return inf if timeout is None else seat.since + timeout - time.monotonic()

    def _patience(self) -> int | None:
        """Milliseconds until the first task has taken too long; None if that can't be."""
        left = min(self._left(seat) for seat in self._seats)
        return None if left == inf else max(0, ceil(1000 * left))

    def _answered(self, seat: _Seat) -> Iterator[TaskResult]:
        answers = seat.slot.receive()
        if answers is None:
            yield from self._lost(seat)
            return
        for answer in answers:
            if isinstance(answer[0], int):
                yield self._result(seat, answer)
            else:
                self._told(seat, answer)

    def _told(self, seat: _Seat, answer: tuple[Any, ...]) -> None:
        """What a worker says of itself."""
        if answer[0] == READY:
            seat.ready, self._false_starts = True, 0
        elif answer[0] == NEED:
            seat.slot.begin(self.work, self.settings.idle_timeout, self.work.blob)
        elif answer[0] == FAILED:
            error = answer[1]
            raise ExecutorError(
                f"A worker process can't get ready for the run: {type(error).__name__}: {error}"
            ) from error
        else:
            seat.since = time.monotonic()  # the next attempt

    def _result(self, seat: _Seat, answer: tuple[Any, ...]) -> TaskResult:
        result = TaskResult(*answer)
        seat.tasks.popleft()
        seat.since = time.monotonic()
        seat.slot.ran += 1
        self._typical = 0.8 * self._typical + 0.2 * result.wall_time if self._typical else result.wall_time
        return result

    def _lost(self, seat: _Seat, *, late: bool = False) -> Iterator[TaskResult]:
        """End a worker that died or whose task takes too long; what it had done counts, what it had not runs again."""
        running = seat.tasks[0] if seat.tasks else None
        if not late:
            seat.slot.wait()
        said = seat.slot.last_words()
        seat.slot.kill()
        while (answers := seat.slot.receive()) is not None:
            yield from (self._result(seat, answer) for answer in answers if isinstance(answer[0], int))
        self._unseat(seat)
        code = discard(seat.slot)
        if seat.tasks and not (late and seat.tasks[0] is not running):
            yield self._blamed(seat, seat.tasks.popleft(), code, said, late)
        elif not seat.ready:
            self._false_starts += 1
            if self._false_starts > _MOST_FALSE_STARTS:
                raise ExecutorError(
                    f"Worker processes die before they have run anything, {self._false_starts} of them now; "
                    f"the last one {ending(code)}."
                )
        self._again.extendleft(reversed(seat.tasks))
        # When a run is being stopped, whoever kills its workers would have to kill new ones as well.
        if self._again or not (self.level.draining or self._is_done()):
            self._seat()

    def _blamed(self, seat: _Seat, task: Task, code: int | None, said: str, late: bool) -> TaskResult:
        """What comes of the task that a worker died over: a failure, random unless it took too long."""
        if late:
            timeout = self.work.settings(task).timeout
            what = f"This fragment took longer than task.timeout = {timeout:g} s and was killed."
        else:
            what = f"The worker process that ran this fragment {ending(code)}."
        told = {"label": task.label, "pid": seat.slot.pid, "why": what, "said": said, "innocent": len(seat.tasks)}
        with suppress(Exception):  # where logging fails, the run goes on
            structlog.get_logger("mbexec").warning("fragment_killed" if late else "worker_died", **told)
        if said:
            what += f" The last that it printed:\n{said}"
        now = time.time()
        return TaskResult(
            index=task.index,
            error=TaskError("resource_error" if late else "random_error", what),
            started=now - (time.monotonic() - seat.since),
            ended=now,
            worker=f"{socket.gethostname()}:{seat.slot.pid}:{seat.slot.pid}",
        )
