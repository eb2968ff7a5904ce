"""The threads executor: for programs that run as child processes or let go of Python's lock while they compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue

from attrs import define

from mbexec import Level, TaskResult, Work, hookimpl

__all__ = ["Threads"]


@define(eq=False)
class Threads:
    """Runs as many fragments at once as there are workers, each in a thread of this process."""

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Pull a task when a thread is free for it, so that none is left to begin when the run is being stopped."""
        pool = ThreadPoolExecutor(work.workers, thread_name_prefix="mbexec")
        ended: SimpleQueue[Future[TaskResult]] = SimpleQueue()
        done: deque[Future[TaskResult]] = deque()
        running = 0
        try:
            while True:
                while not ended.empty() or (running and not done):
                    done.append(ended.get())
                    running -= 1
                for task in islice(level, min(work.workers, 2 * work.workers - len(done)) - running):
                    pool.submit(work, task).add_done_callback(ended.put)
                    running += 1
                if done:
                    yield done.popleft().result()
                elif not running:
                    return
        finally:
            pool.shutdown(cancel_futures=True)
