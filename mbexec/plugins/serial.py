"""The serial executor: one fragment after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from attrs import define

from mbexec import Level, TaskResult, Work, hookimpl

__all__ = ["Serial"]


@define(eq=False)
class Serial:
    """Runs one fragment at a time, whatever the number of workers."""

    max_workers: ClassVar[int] = 1

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Run each task as it is pulled."""
        for task in level:
            yield work(task)
