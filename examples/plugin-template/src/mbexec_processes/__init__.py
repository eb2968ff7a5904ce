"""An mbexec executor on the worker processes of Python's standard library."""

import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import ClassVar

from attrs import define, field, validators

from mbexec import Level, NeedContext, Task, TaskResult, Work, hookimpl, run_chunk

_processes = get_context("forkserver")
_processes.set_forkserver_preload(["mbexec", "qcelemental.models.v2"])
_leave_interrupts_to_parent = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}


@define(eq=False)
class Processes:
    """Runs each task in one of a pool of processes, which lasts for a level.

    Attributes
    ----------
    ahead
        How many tasks wait for each process.
    """

    isolates_processes: ClassVar[bool] = True
    ahead: int = field(default=1, validator=[validators.instance_of(int), validators.ge(0)])

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Keep every process busy, and a task or more waiting for each."""
        pool = ProcessPoolExecutor(work.workers, _processes, **_leave_interrupts_to_parent)
        most = (1 + self.ahead) * work.workers
        running: dict[Future, Task] = {}
        try:
            while True:
                for task in islice(level, most - len(running)):
                    running[pool.submit(run_chunk, work.key, [task])] = task
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task, answer = running.pop(future), future.result()
                    if isinstance(answer, NeedContext):
                        running[pool.submit(run_chunk, work.key, [task], work.blob)] = task
                    else:
                        yield from answer
        finally:
            pool.shutdown(cancel_futures=True)
