"""What executors are given to run, in this process or in others."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property

import cloudpickle
from attrs import define, field, frozen

from mbexec.core.context import Context
from mbexec.core.limits import limited_threads
from mbexec.core.program import Programs, run_task
from mbexec.core.types import Task, TaskResult

__all__ = ["NeedContext", "Work", "run_chunk"]


@define(eq=False)
class Work:
    """The work of a run: call it with a task in this process, or send it to others by `key` and `blob`.

    Attributes
    ----------
    context
        What every worker needs.
    workers
        How many tasks may run at once.
    """

    context: Context
    workers: int
    _programs: Programs | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __call__(self, task: Task, alternative: int = 0) -> TaskResult:
        """Run a task here: with the model chemistry as given, or with the nth of the executor's ``alternatives``."""
        return run_task(task, self._programs or self.prepare(), alternative)

    def prepare(self) -> Programs:
        """Load the programs here; raises ProgramError if one is missing."""
        with self._lock:
            self._programs = self._programs or Programs(self.context)
        return self._programs

    @cached_property
    def blob(self) -> bytes:
        """The context as bytes."""
        data: bytes = cloudpickle.dumps(self.context)
        return data

    @cached_property
    def key(self) -> str:
        """A digest of the context, by which a worker knows whether it has it."""
        return hashlib.sha256(self.blob).hexdigest()


@frozen
class NeedContext:
    """A worker's answer when it has not seen a context yet: send the blob along.

    Attributes
    ----------
    key
        Of the context that is missing.
    """

    key: str


class _Worker:
    """What a worker process holds on to: the programs of the last context, and its thread limits."""

    key: str = ""
    programs: Programs | None = None
    limits = ExitStack()


def run_chunk(key: str, tasks: Sequence[Task], blob: bytes | None = None) -> list[TaskResult] | NeedContext:
    """Run tasks in a worker process; the function to send there.

    Parameters
    ----------
    key
        ``work.key``.
    tasks
        What to run, in order.
    blob
        ``work.blob``; needed once per worker and context.

    Returns
    -------
    list of TaskResult, or NeedContext
        The latter, at once and with nothing run, when `blob` is needed.
    """
    if _Worker.key != key:
        if blob is None:
            return NeedContext(key)
        _adopt(key, blob)
    assert _Worker.programs is not None
    return [run_task(task, _Worker.programs) for task in tasks]


def _adopt(key: str, blob: bytes) -> None:
    context: Context = cloudpickle.loads(blob)
    _Worker.limits.close()
    _Worker.limits.enter_context(limited_threads(context.task.ncores))
    _Worker.programs = Programs(context)
    _Worker.key = key
