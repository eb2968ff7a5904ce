"""What travels between the run and Dask workers besides tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

__all__ = ["Answer", "Common"]


@frozen
class Common:
    """What is the same for all tasks of a level; Dask takes it to each worker once.

    Attributes
    ----------
    run
        A name for the level.
    key, blob
        Of the work.
    distributions
        Whose versions count.
    timeout, timeout_of
        Seconds that a task may take, and for tasks of N bodies where it differs.
    scratch
        ``task.scratch_directory``.
    idle_timeout
        Seconds that a child without work is kept.
    """

    run: str
    key: str
    blob: bytes
    distributions: tuple[str, ...]
    timeout: float | None
    timeout_of: Mapping[int, float | None]
    scratch: str | None
    idle_timeout: float

    def limit(self, task: tuple[Any, ...]) -> float | None:
        """Seconds that a task, an (index, mc, frag, bas), may take."""
        return self.timeout_of.get(len(task[2]), self.timeout)


@frozen
class Answer:
    """What comes back of a message.

    Attributes
    ----------
    worker, threads, resources
        Address of the Dask worker, and what it has.
    told
        What children that saw the run for the first time said of their versions.
    results
        Of each task that is done, in pickled form, in the order of the tasks.
    """

    worker: str
    threads: int
    resources: Mapping[str, float]
    told: tuple[Mapping[str, str], ...]
    results: tuple[bytes, ...]
