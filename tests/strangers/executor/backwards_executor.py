"""An executor that begins at the end, a few tasks at a time."""

from collections.abc import Iterator
from itertools import islice

from attrs import define, field, validators

from mbexec import Level, TaskResult, Work, hookimpl


@define(eq=False)
class Backwards:
    """Runs as many fragments as there are steps in a stride, last first, then takes the next stride.

    Attributes
    ----------
    stride
        How many tasks to turn round at a time.
    """

    stride: int = field(default=4, validator=[validators.instance_of(int), validators.gt(0)])

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Pull a stride, run it from its end."""
        while tasks := list(islice(level, self.stride)):
            yield from map(work, reversed(tasks))
