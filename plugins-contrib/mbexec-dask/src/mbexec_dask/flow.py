"""A level on its way through Dask: what is sent, what comes back, and what happens when workers come and go."""

from __future__ import annotations

import pickle
import secrets
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from attrs import asdict, define, field
from distributed import Client, Future, KilledWorker

from mbexec import ExecutorError, Level, TaskError, TaskResult, Work, check_versions
from mbexec_dask import remote
from mbexec_dask.crew import BEAT, Crew, tell
from mbexec_dask.messages import Answer, Common
from mbexec_dask.queue import Chunk, Queue, Settings

__all__ = ["DISTRIBUTIONS", "Flow", "Traffic"]

DISTRIBUTIONS = ("mbexec-dask", "distributed")
_MOMENT = 0.05  # s
_MOST_CANCELLED = 5
_NOTHING = pickle.dumps([])


@define(eq=False)
class Traffic:
    """Bytes sent, and received."""

    sent: int = 0
    received: int = 0


@define(eq=False)
class Flow:
    """Tasks go to Dask in messages whose size follows the measured time of a task."""

    level: Level
    work: Work
    client: Client
    settings: Settings
    traffic: Traffic
    _run: str = field(init=False)
    _common: Future | None = field(default=None, init=False)
    _crew: Crew = field(init=False)
    _chunks: dict[Any, tuple[Future, Chunk]] = field(factory=dict, init=False)
    _accepted: list[Mapping[str, str]] = field(factory=list, init=False)
    _inbox: SimpleQueue[Any] = field(factory=SimpleQueue, init=False)
    _queue: Queue = field(init=False)
    _numbers: Iterator[int] = field(factory=count, init=False)
    _on_its_way: float = field(default=5.0, init=False)  # s

    def __attrs_post_init__(self) -> None:
        self._queue = Queue(self.level, self.work, self.settings)

    def results(self) -> Iterator[TaskResult]:
        """Every result, the moment it is there. Closed early, what runs is killed."""
        if self._is_done():
            return
        self._start()
        try:
            came: list[TaskResult] = []
            while True:
                self._crew.look()
                self._feed()
                yield from came  # workers have their next tasks by then, however long the caller takes over these
                if self._is_done():
                    return
                came = list(self._heard())
        finally:
            self._leave()

    def _is_done(self) -> bool:
        return not self._chunks and self._queue.is_empty

    def _start(self) -> None:
        self._run = secrets.token_hex(16)
        self._common = None
        self._crew = Crew(self.client, self.work, self.settings.patience, self._probe, self._greet)

    def _probe(self, worker: str) -> Future:
        """Ask for nothing but what Python has: a worker dies of a message that it can't read."""
        return self._call(version, "mbexec-dask", **_near(worker))

    def _greet(self, worker: str) -> Future:
        self._common = self._common or self._held_by_dask()
        return self._call(remote.run, self._common, _NOTHING, **_near(worker))

    def _held_by_dask(self) -> Future:
        """What all tasks have in common: a plain result, which any worker can compute again where it is lost."""
        task, others = self.work.context.task, self.work.context.task_of
        common = Common(
            self._run,
            self.work.key,
            self.work.blob,
            DISTRIBUTIONS,
            task.timeout,
            {nbody: other.timeout for nbody, other in others.items()},
            task.scratch_directory,
            self.settings.idle_timeout,
        )
        self.traffic.sent += len(self.work.blob)
        return self.client.submit(dict, asdict(common), key=self._key(), pure=False)

    def _key(self) -> tuple[str, int]:
        return f"mbexec-{self._run}", next(self._numbers)

    def _call(self, function: Callable[..., Any], *given: Any, **where: Any) -> Future:
        """Have a worker call a function, and put what comes of it into the inbox."""
        future = self.client.submit(function, *given, key=self._key(), pure=False, **where)
        future.add_done_callback(self._inbox.put)
        return future

    # Sending

    def _feed(self) -> None:
        """Send messages, enough for all threads that may be used, and one more for each if they are soon done."""
        slots = min(self._crew.size, self.work.workers)
        if not slots:
            return
        spare = self._crew.size > self.work.workers  # then Dask would run what is to wait
        most = slots if spare or not self._queue.in_batches else 2 * slots
        while len(self._chunks) < most and (chunk := self._queue.next(slots)) is not None:
            needs = self._queue.needs(chunk.tasks[0])
            if needs and not self._crew.offers(needs):
                self._queue.again.appendleft(chunk)
                return
            self._submit(chunk, needs)

    def _submit(self, chunk: Chunk, needs: dict[str, float]) -> None:
        pickled = pickle.dumps([(task.index, task.mc, task.frag, task.bas) for task in chunk.tasks])
        self.traffic.sent += len(pickled)
        future = self._call(remote.run, self._common, pickled, resources=needs or None)
        self._chunks[future.key] = future, chunk

    # Hearing

    def _heard(self) -> Iterator[TaskResult]:
        """Wait until something happens, and deal with it."""
        came: list[Future] = []
        with suppress(Empty):
            came.append(self._inbox.get(timeout=BEAT))
            while True:
                came.append(self._inbox.get_nowait())
        ours = {**{key: future for key, (future, _) in self._chunks.items()}, **self._crew.waiting()}
        came = [future for future in came if future.key in ours]
        good = {future.key: future for future in came if future.status == "finished"}
        answers = self._gathered(good)
        for key, answer in answers.items():
            if isinstance(answer, str):
                self._crew.probed(key, answer)
            else:
                yield from self._answered(key, answer)
        lost = []
        for future in came:
            if future.key in answers:
                continue
            if future.status == "error" and not self._is_bereft(future):
                yield from self._failed(future)
            else:
                lost.append(future)
        if lost:
            self._resume(lost)

    def _gathered(self, good: dict[Any, Future]) -> dict[Any, Answer | str]:
        """Results that have finished, but for those that were lost on their way: Dask may compute these again."""
        found: dict[Any, Answer | str] = {}
        for key, future in good.items():
            with suppress(Exception, CancelledError):
                found[key] = future.result(timeout=self._on_its_way)
            if key not in found and future.status == "finished":  # slow, not lost
                self._on_its_way *= 2
        return found

    def _answered(self, key: Any, answer: Answer) -> Iterator[TaskResult]:
        for told in answer.told:
            if told not in self._accepted:
                check_versions(self.work, told, f"The Dask worker {answer.worker!r}")
                self._accepted.append(told)
        if key not in self._chunks:
            self._crew.welcome(answer)
            return
        _, chunk = self._chunks.pop(key)
        for pickled in answer.results:
            self.traffic.received += len(pickled)
            result = TaskResult(*pickle.loads(pickled))
            self._queue.took(result.wall_time)
            yield result
        if left := chunk.tasks[len(answer.results) :]:  # the worker was told to stop, by a client that was cut off
            self._queue.again.append(Chunk(left, chunk.cancelled))

    def _is_bereft(self, future: Future) -> bool:
        """Whether workers died over what all tasks have in common, which is nothing of this message's."""
        error = future.exception()
        return isinstance(error, KilledWorker) and error.task != future.key

    def _failed(self, future: Future) -> Iterator[TaskResult]:
        """Workers died over a message: its tasks run again, each by itself, until it is known which of them it is."""
        error = future.exception()
        if isinstance(error, KilledWorker) and future.key not in self._chunks:
            return  # it died before it could answer, and others will come
        if isinstance(error, ExecutorError):
            raise error
        if not isinstance(error, KilledWorker):
            raise ExecutorError(
                f"Dask can't run the tasks of mbexec: {type(error).__name__}: {error}. "
                "Its scheduler and its workers need mbexec and mbexec-dask in their environments."
            ) from error
        _, chunk = self._chunks.pop(future.key)
        tell("worker_died", fragments=[task.label for task in chunk.tasks], why=str(error))
        if len(chunk.tasks) > 1:
            self._queue.again.extend(Chunk([task]) for task in chunk.tasks)
            return
        now = time.time()
        what = f"Dask workers died each time that they ran this fragment: {error}"
        yield TaskResult(chunk.tasks[0].index, error=TaskError("random_error", what), started=now, ended=now)

    def _resume(self, lost: list[Future]) -> None:
        """Send again what Dask forgot, since it was cut off from this process, restarted or asked to."""
        if all(future.status in ("pending", "finished") for future in lost):
            time.sleep(_MOMENT)
            for future in lost:  # being computed again, or still there
                future.add_done_callback(self._inbox.put)
            return
        while self.client.status == "connecting":
            time.sleep(_MOMENT)
        if self.client.status != "running":
            raise ExecutorError(
                "The connection to the Dask scheduler was lost and could not be made again. "
                "A store keeps the fragments that have finished; start the run again when the scheduler is there."
            )
        tell("sent_again", messages=len(self._chunks))
        chunks = [chunk for _, chunk in self._chunks.values()]
        self._leave()
        for chunk in chunks:
            chunk.cancelled += 1
            if chunk.cancelled > _MOST_CANCELLED:
                raise ExecutorError(f"The Dask scheduler has cancelled tasks of this run {chunk.cancelled} times.")
        self._queue.again.extendleft(reversed(chunks))
        self._start()

    def _leave(self) -> None:
        """Take everything back from Dask; what runs is killed."""
        futures = [future for future, _ in self._chunks.values()]
        waiting = list(self._crew.waiting().values())
        with suppress(Exception):  # without a scheduler there is nobody to tell
            if futures and self.client.status == "running":
                self.client.run(remote.stop, self._run, on_error="ignore")
            if futures or waiting:
                self.client.cancel([*futures, *waiting], force=True)
        if self._common is not None:
            self._common.release()
        self._chunks.clear()


def _near(worker: str) -> dict[str, Any]:
    """On a worker; what it knows is asked of another one where it is lost with its answer."""
    return {"workers": [worker], "allow_other_workers": True}
