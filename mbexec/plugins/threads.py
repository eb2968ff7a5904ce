"""The threads executor: for programs that run as child processes or let go of Python's lock while they compute."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

from attrs import define

from mbexec import Level, TaskResult, Work, hookimpl

__all__ = ["Threads"]


@define(eq=False)
class Threads:
    """Runs as many fragments at once as there are workers, each in a thread of this process."""

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Keep every thread busy and one task waiting for each."""
        pool = ThreadPoolExecutor(work.workers, thread_name_prefix="mbexec")
        running: set[Future[TaskResult]] = set()
        try:
            while True:
                running.update(pool.submit(work, task) for task in islice(level, 2 * work.workers - len(running)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
