"""The threads executor: for programs that run as child processes or let go of Python's lock while they compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from queue import SimpleQueue
from typing import Self

from attrs import define, field

from mbexec import Level, TaskResult, Work, hookimpl

__all__ = ["Threads"]


@define(eq=False)
class Threads:
    """Runs as many fragments at once as there are workers, each in a thread of this process.

    The threads stay from level to level, so that a worker is the same one in all of a run.
    """

    _pool: ThreadPoolExecutor | None = field(default=None, init=False)
    _workers: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        """Threads start when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _threads(self, workers: int) -> ThreadPoolExecutor:
        if self._pool is None or self._workers < workers:
            self.__exit__()
            self._pool, self._workers = ThreadPoolExecutor(workers, thread_name_prefix="mbexec"), workers
        return self._pool

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Pull a task when a thread is free for it, so that none is left to begin when the run is being stopped."""
        pool = self._threads(work.workers)
        ended: SimpleQueue[Future[TaskResult]] = SimpleQueue()
        done: deque[Future[TaskResult]] = deque()
        running: set[Future[TaskResult]] = set()
        try:
            while True:
                while not ended.empty() or (running and not done):
                    done.append(ended.get())
                    running.remove(done[-1])
                for task in islice(level, min(work.workers, 2 * work.workers - len(done)) - len(running)):
                    future = pool.submit(work, task)
                    running.add(future)
                    future.add_done_callback(ended.put)
                if done:
                    yield done.popleft().result()
                elif not running:
                    return
        finally:
            for future in running:
                future.cancel()
            wait(running)
