"""What is to be sent of a level: tasks by the message, whose size follows the measured time of a task."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from mbexec import Level, Task, Work

__all__ = ["Chunk", "Queue", "Settings"]

_LARGEST = 160  # tasks in a message: three messages for each thread are within the 512 that may be pulled ahead
_SHARE = 0.005  # s that the client and the scheduler may take over a message, generously


@frozen
class Settings:
    """Those of ``[plugin.dask]`` that matter to a level.

    Attributes
    ----------
    chunk_time
        Seconds of work in a message; None to let it follow the number of workers.
    resources
        What a task takes of its worker's resources: "ncores", "memory" or a number, by Dask's name of the resource.
    patience
        Seconds to wait for the first worker, or for another when all are gone; None for ever.
    idle_timeout
        Seconds that processes without work are kept.
    """

    chunk_time: float | None
    resources: Mapping[str, Any]
    patience: float | None
    idle_timeout: float


@define(eq=False)
class Chunk:
    """Tasks that were sent in one message."""

    tasks: Sequence[Task]
    cancelled: int = 0


@define(eq=False)
class Queue:
    """Tasks that have not been sent, and those that are to be sent again.

    Attributes
    ----------
    level, work, settings
        Of the run.
    again
        What was sent and has to run again; it goes first.
    """

    level: Level
    work: Work
    settings: Settings
    again: deque[Chunk] = field(factory=deque, init=False)
    _held: Task | None = field(default=None, init=False)
    _pulled: int = field(default=0, init=False)
    _typical: float = field(default=0.0, init=False)
    _size: int = field(default=1, init=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be sent any more."""
        pending = self.again or self._held is not None
        return not pending and (self.level.draining or self._pulled == len(self.level))

    @property
    def in_batches(self) -> bool:
        """Whether tasks are so short that messages had better wait with workers."""
        return bool(self._typical) and (self._size > 1 or self._typical <= _SHARE)

    def took(self, seconds: float) -> None:
        """Note the time of a task."""
        self._typical = 0.8 * self._typical + 0.2 * seconds if self._typical else seconds

    def next(self, slots: int) -> Chunk | None:
        """What to send next, where so many threads are to have work; None if there is nothing."""
        if self.again:
            return self.again.popleft()
        wanted = (self.settings.chunk_time or max(0.1, _SHARE * slots)) / max(self._typical, 1e-6)
        self._size = int(min(max(1, wanted), 2 * self._size, _LARGEST)) if self._typical else 1
        tasks = self._pull(min(self._size, max(1, (len(self.level) - self._pulled) // (2 * slots))))
        return Chunk(tasks) if tasks else None

    def _pull(self, most: int) -> list[Task]:
        """At most so many tasks, all of which take the same of a worker's resources."""
        tasks = [] if self._held is None else [self._held]
        self._held = None
        while len(tasks) < most and (task := next(self.level, None)) is not None:
            self._pulled += 1
            if tasks and self.needs(task) != self.needs(tasks[0]):
                self._held = task
                break
            tasks.append(task)
        return tasks

    def needs(self, task: Task) -> dict[str, float]:
        """What a task takes of its worker's resources, by Dask's names."""
        given = self.work.settings(task)
        known = {"ncores": given.ncores, "memory": given.memory}
        return {name: known.get(amount, amount) for name, amount in self.settings.resources.items()}
