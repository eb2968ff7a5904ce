"""The loky executor: fragments in reusable worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any

from attrs import define, field, validators
from loky import get_reusable_executor
from loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from mbexec import ExecutorError, Level, NeedContext, Task, TaskResult, Work, hookimpl, run_chunk

__all__ = ["Loky"]

_LARGEST_CHUNK = 256
_Answer = list[TaskResult] | NeedContext


@define(eq=False)
class Loky:
    """Runs fragments in processes that stay warm between levels and runs.

    Attributes
    ----------
    chunk_time
        Seconds of work to send to a worker at once.
    idle_timeout
        Seconds that idle workers are kept.
    """

    chunk_time: float = field(default=0.05, validator=[validators.instance_of((int, float)), validators.gt(0)])
    idle_timeout: float = field(default=60, validator=[validators.instance_of((int, float)), validators.gt(0)])

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Send chunks as workers become free; see :class:`mbexec.Work` for the protocol."""
        pool = get_reusable_executor(work.workers, timeout=self.idle_timeout, initializer=_leave_interrupts_to_parent)
        flow = _Flow(level, work, self.chunk_time, pool)
        try:
            yield from flow.results()
        except (BrokenProcessPool, TerminatedWorkerError) as error:
            raise ExecutorError(
                "A worker process died (killed, out of memory or a crash inside the program); the fragments that were "
                f"running are lost. Run again, with fewer workers if memory ran out. loky says: {error}"
            ) from error
        finally:
            flow.stop()


def _leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the parent decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@define(eq=False)
class _Flow:
    """Chunks on their way: their size follows the measured time of a task."""

    level: Level
    work: Work
    chunk_time: float
    pool: Any
    _running: dict[Future[_Answer], list[Task]] = field(factory=dict, init=False)
    _chunk: int = field(default=1, init=False)

    def results(self) -> Iterator[TaskResult]:
        """Every result, as its chunk returns."""
        while True:
            self._fill()
            if not self._running:
                return
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                tasks = self._running.pop(future)
                answer = future.result()
                if isinstance(answer, NeedContext):
                    self._send(tasks, self.work.blob)
                    continue
                self._adapt(answer)
                yield from answer

    def stop(self) -> None:
        """Kill the workers if one still runs something: nobody waits for it any more."""
        if self._running:
            self.pool.shutdown(kill_workers=True)

    def _fill(self) -> None:
        """Keep every worker busy and one chunk waiting for each; smaller chunks towards the end, for balance."""
        while len(self._running) < 2 * self.work.workers:
            tasks = list(islice(self.level, self._chunk))
            if not tasks:
                return
            self._send(tasks)

    def _send(self, tasks: list[Task], blob: bytes | None = None) -> None:
        self._running[self.pool.submit(run_chunk, self.work.key, tasks, blob)] = tasks

    def _adapt(self, results: list[TaskResult]) -> None:
        typical = sum(result.wall_time for result in results) / len(results)
        wanted = self.chunk_time / max(typical, 1e-6)
        self._chunk = int(min(max(1, wanted), 2 * self._chunk, _LARGEST_CHUNK))
