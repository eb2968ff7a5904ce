"""What executors are given to run, in this process or in others."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from functools import cached_property
from typing import ClassVar

import cloudpickle
from attrs import define, field, frozen

from mbexec.core.context import Context
from mbexec.core.limits import limited_threads
from mbexec.core.program import Programs, run_task
from mbexec.core.settings import TaskSettings
from mbexec.core.types import Task, TaskResult

__all__ = ["NeedContext", "Work", "loaded", "run_chunk"]

_KEPT = 4


@define(eq=False)
class Work:
    """The work of a run: call it with a task in this process, or send it to others by `key` and `blob`.

    Attributes
    ----------
    context
        What every worker needs.
    workers
        How many tasks may run at once.
    on_begin
        Told of each task that begins; set by the engine.
    """

    context: Context
    workers: int
    on_begin: Callable[[Task], object] | None = field(default=None, init=False)
    _programs: Programs | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __call__(self, task: Task, alternative: int = 0) -> TaskResult:
        """Run a task here: with the model chemistry as given, or with the nth of the executor's ``alternatives``."""
        self.began(task)
        return run_task(task, self._programs or self.prepare(), alternative)

    def began(self, task: Task) -> None:
        """Tell that a task has begun, from any thread of this process; needed of those that begin in other processes.

        An executor that learns of it late, or never, says nothing: this is for people who wonder what runs.
        """
        if self.on_begin is not None:
            self.on_begin(task)

    def settings(self, task: Task) -> TaskSettings:
        """What the task may use: cores, memory, time."""
        return self.context.settings(task.nbody)

    def prepare(self) -> Programs:
        """Load the programs here; raises ProgramError if one is missing."""
        with self._lock:
            self._programs = self._programs or Programs(self.context)
        return self._programs

    def alone(self) -> Work:
        """The same work for one worker."""
        other = copy(self)
        other.workers = 1
        return other

    @cached_property
    def blob(self) -> bytes:
        """The context as bytes, with what a worker could not find out by itself."""
        data: bytes = cloudpickle.dumps(self.prepare().portable())
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
    """What a worker process holds on to: the programs of the last few contexts, and the current one's limits."""

    key: str = ""
    ncores: int = 0
    known: ClassVar[OrderedDict[str, Programs]] = OrderedDict()
    limits = ExitStack()


def run_chunk(
    key: str,
    tasks: Sequence[Task],
    blob: bytes | None = None,
    *,
    scratch: str | None = None,
    on_retry: Callable[[], object] | None = None,
) -> list[TaskResult] | NeedContext:
    """Run tasks in a worker process; the function to send there.

    Parameters
    ----------
    key
        ``work.key``.
    tasks
        What to run, in order; none to have the programs loaded, and limits of threads set anew.
    blob
        ``work.blob``; needed once per worker and context. A worker remembers the last few.
    scratch
        Where programs put their files in this worker, in place of ``task.scratch_directory``. Read with `blob`.
    on_retry
        Called before an attempt that is not a task's first.

    Returns
    -------
    list of TaskResult, or NeedContext
        The latter, at once and with nothing run, when `blob` is needed.
    """
    if key not in _Worker.known:
        if blob is None:
            return NeedContext(key)
        context: Context = cloudpickle.loads(blob)
        _Worker.known[key] = Programs(context, scratch)
        if len(_Worker.known) > _KEPT:
            _Worker.known.popitem(last=False)
    programs = _Worker.known[key]
    if _Worker.key != key or not tasks:
        _Worker.known.move_to_end(key)
        _Worker.key = key
        _limit_threads(programs.context.task.ncores)
    programs.on_retry = on_retry
    return [_run(task, programs) for task in tasks]


def loaded(key: str) -> Programs:
    """The programs of a context that this worker process has been given."""
    return _Worker.known[key]


def _run(task: Task, programs: Programs) -> TaskResult:
    ncores = programs.context.settings(task.nbody).ncores
    if ncores != _Worker.ncores:
        _limit_threads(ncores)
    return run_task(task, programs)


def _limit_threads(ncores: int) -> None:
    _Worker.ncores = 0
    _Worker.limits.close()
    _Worker.limits.enter_context(limited_threads(ncores))
    _Worker.ncores = ncores
