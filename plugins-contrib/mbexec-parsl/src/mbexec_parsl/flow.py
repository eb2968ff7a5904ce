"""A level on its way through Parsl's workers: what is sent, what comes back, and what happens to what is lost."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog
from attrs import define, field

from mbexec import ExecutorError, Level, Task, TaskError, TaskResult, Work, check_versions
from mbexec_parsl.pool import Pool

__all__ = ["Chunk", "Flow", "Traffic"]

_LARGEST = 200  # two with each worker, and what one brought, are less than the contract allows
_AHEAD = 2
_EACH = 0.002  # s of the interchange's time that a chunk costs, and as much again to spare
_PATIENCE = 0.25
_PAUSE = 2.0  # s
_MOST_FALSE_STARTS = 20
_MOST_BLOCKS = 3


@define(eq=False)
class Traffic:
    """Bytes sent to workers, and received from them."""

    sent: int = 0
    received: int = 0


@define(eq=False)
class Chunk:
    """What one message of Parsl's carries: tasks, or nothing but the context, for a worker to get ready."""

    tasks: list[Task]
    told: bool = False


@define(eq=False)
class Flow:
    """Chunks of tasks go to workers, a few ahead, whose size follows the measured time of a task.

    Attributes
    ----------
    level, work
        Of the run.
    pool
        The workers.
    chunk_time
        Seconds of work to send at once; more where so many workers are that the interchange could not keep up.
    traffic
        What is sent and received is counted there.
    """

    level: Level
    work: Work
    pool: Pool
    chunk_time: float
    traffic: Traffic
    _inbox: queue.SimpleQueue[tuple[Chunk, Future[bytes]]] = field(factory=queue.SimpleQueue, init=False)
    _flying: list[Chunk] = field(factory=list, init=False)
    _again: deque[Task] = field(factory=deque, init=False)
    _alone: deque[Task] = field(factory=deque, init=False)
    _blocks_lost: Counter[int] = field(factory=Counter, init=False)
    _missing: int = field(default=0, init=False)
    _quiet: float = field(default=0.0, init=False)
    _false_starts: int = field(default=0, init=False)
    _checked: list[dict[str, str]] = field(factory=list, init=False)
    _pulled: int = field(default=0, init=False)
    _typical: float = field(default=0.0, init=False)
    _size: int = field(default=1, init=False)

    def results(self) -> Iterator[TaskResult]:
        """Every result, as its chunk comes back."""
        came: list[TaskResult] = []
        while True:
            self._feed()
            yield from came  # workers have their next chunks by then, however long the caller takes over these
            if self._is_done():
                return
            came = list(self._heard())

    @property
    def busy(self) -> bool:
        """Whether tasks are with workers."""
        return any(chunk.tasks for chunk in self._flying)

    def _is_done(self) -> bool:
        if self._again or self._alone or self.busy:
            return False
        return self.level.draining or self._pulled >= len(self.level)

    def _feed(self) -> None:
        """Have workers get ready that are not, and keep the next chunks with those that are."""
        if self._is_done():
            return
        known, there = len(self._known), self.pool.workers()
        beginning = sum(not chunk.tasks for chunk in self._flying)
        unknown = min(there, self.work.workers) - known if time.monotonic() > self._quiet else 0
        wanted = max(unknown, self._missing) - beginning
        if not there and not self._flying:
            wanted = 1  # something to do, for strategies that ask for blocks when there is
        for _ in range(wanted if there or not beginning else 0):
            self._send(Chunk([]), urgent=known > 0)
        ready = min(known, there) if there else 0
        limit = _AHEAD * ready
        if self.pool.site.most is None or self.pool.site.most > self.work.workers:
            limit = min(limit, self.work.workers)
        while sum(bool(chunk.tasks) for chunk in self._flying) < limit and (tasks := self._next(ready)):
            self._send(Chunk(tasks))
        self._tell_what_runs(ready)

    @property
    def _known(self) -> set[str]:
        """Names of the workers that have the context."""
        return self.pool.known.setdefault(self.work.key, set())

    def _tell_what_runs(self, ready: int) -> None:
        """The first task of each chunk that a worker should have begun."""
        for chunk in [chunk for chunk in self._flying if chunk.tasks][:ready]:
            if not chunk.told:
                chunk.told = True
                self.work.began(chunk.tasks[0])

    def _next(self, ready: int) -> list[Task]:
        """Tasks to send: a suspect by itself, innocents, then new ones, fewer at a time when few are left."""
        if self._alone:
            return [self._alone.popleft()]
        size = min(self._size, max(1, (len(self.level) - self._pulled) // (2 * _AHEAD * ready)))
        tasks = [self._again.popleft() for _ in range(min(size, len(self._again)))]
        pulled = list(islice(self.level, size - len(tasks)))
        self._pulled += len(pulled)
        return tasks + pulled

    def _send(self, chunk: Chunk, *, urgent: bool = False) -> None:
        message: dict[str, Any] = {"key": self.work.key}
        if chunk.tasks:
            message["tasks"] = [(task.index, task.mc, task.frag, task.bas) for task in chunk.tasks]
            message["timeouts"] = {task.nbody: self.work.settings(task).timeout for task in chunk.tasks}
            message["budget"] = 2 * self._target()
            wanted = self._target() / max(self._typical, 1e-6) if self._typical else 1
            self._size = int(min(max(1, wanted), 2 * self._size, _LARGEST))
        if not chunk.tasks or len(self._known) < min(self.pool.workers(), self.work.workers):  # whoever takes it, can
            message |= {"blob": self.work.blob, "directory": os.getcwd(), "path": _own_path()}
            message |= {"scratch": _absolute(self.work.context.task.scratch_directory)}
            message |= {"distributions": ["mbexec-parsl", "parsl"]}
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.traffic.sent += len(data)
        self._flying.append(chunk)
        future = self.pool.submit(data, urgent=urgent)
        future.add_done_callback(lambda done: self._inbox.put((chunk, done)))

    def _target(self) -> float:
        """Seconds of work that a chunk should have."""
        return max(self.chunk_time, 2 * _EACH * len(self._known))

    def _heard(self) -> Iterator[TaskResult]:
        """Wait until something comes, or a moment, and deal with it."""
        try:
            chunk, future = self._inbox.get(timeout=_PATIENCE)
        except queue.Empty:
            self.pool.check()
            return
        self._flying.remove(chunk)
        yield from self._answered(chunk, future)

    def _answered(self, chunk: Chunk, future: Future[bytes]) -> Iterator[TaskResult]:
        from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

        try:
            data = future.result()
        except WorkerLost as error:
            yield from self._lost(chunk, error, "worker")
            return
        except ManagerLost as error:
            yield from self._lost(chunk, error, "block")
            return
        except Exception as error:
            self.pool.check()
            raise ExecutorError(f"A worker of Parsl's can't run fragments: {type(error).__name__}: {error}") from error
        self.traffic.received += len(data)
        answer = pickle.loads(data)
        if answer["need"]:
            self._known.discard(answer["worker"])
            self._missing += 1
            self._again.extendleft(reversed(chunk.tasks))
            return
        if "versions" in answer:
            self._ready(answer, chunk)
        if not chunk.tasks:
            return
        self._known.add(answer["worker"])
        results: list[TaskResult] = [TaskResult(*pickle.loads(each)) for each in answer["results"]]
        self._again.extendleft(chunk.tasks[place] for place in reversed(answer["left"]))
        each = answer["took"] / len(results)
        self._typical = 0.8 * self._typical + 0.2 * each if self._typical else each
        yield from results

    def _ready(self, answer: dict[str, Any], chunk: Chunk) -> None:
        """A worker has the context, and tells what it is."""
        self._false_starts = 0
        if not chunk.tasks:
            self._missing = max(0, self._missing - 1)
            if answer["worker"] in self._known:  # it was free, and those that are meant were not
                self._quiet = time.monotonic() + _PAUSE
        if answer["versions"] not in self._checked:
            check_versions(self.work, answer["versions"], f"The Parsl worker {answer['worker']}")
            self._checked.append(answer["versions"])
        self._known.add(answer["worker"])

    def _lost(self, chunk: Chunk, error: Exception, what: str) -> Iterator[TaskResult]:
        """A worker, or a block with all of its workers, is gone: what it had runs again, each task by itself.

        A task that was by itself when a worker died over it has failed; one that several blocks were lost with, too.
        """
        self._known.clear()  # those that live say so with their next answer
        if not chunk.tasks:
            self._false_starts += 1
            if self._false_starts > _MOST_FALSE_STARTS:
                raise ExecutorError(f"Parsl's workers die before they have run anything; the last time: {error}")
            return
        for task in chunk.tasks:
            self._blocks_lost[task.index] += what == "block"
        guilty = len(chunk.tasks) == 1 and (what == "worker" or self._blocks_lost[chunk.tasks[0].index] >= _MOST_BLOCKS)
        again = 0 if guilty else len(chunk.tasks)
        with suppress(Exception):  # where logging fails, the run goes on
            structlog.get_logger("mbexec").warning("parsl_lost", what=what, why=str(error), run_again=again)
        if guilty:
            yield TaskResult(
                index=chunk.tasks[0].index,
                error=TaskError("random_error", f"Parsl lost the {what} that ran this fragment: {error}"),
                started=time.time(),
                ended=time.time(),
            )
        else:
            self._alone.extend(chunk.tasks)


def _own_path() -> list[str]:
    """Where modules of the run's own are found: workers have environments of their own for the rest."""
    environment = (sys.prefix, sys.base_prefix)
    entries = [os.path.abspath(entry or os.getcwd()) for entry in sys.path]
    return [entry for entry in entries if not entry.startswith(environment)]


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)
