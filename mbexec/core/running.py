"""What runs just now, and who is told of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from attrs import define, field

from mbexec.core.events import FragmentStarted
from mbexec.core.types import Task

__all__ = ["Running"]

_MOMENT = 0.1  # s
_LONGER = 2.0  # s, while fragments are short: a thread that wakes up holds up one that computes beside it
_SHORT = 500.0  # fragments that end in a second, from which on they are


@define(eq=False)
class Running:
    """Fragments that have begun; a thread tells of those that still run ten times a second: most have ended by then.

    Where hundreds end in a second it looks every two seconds.

    Attributes
    ----------
    tell
        Called with the event of each.
    telling
        Held meanwhile: who holds it, too, while telling that a fragment has ended, tells of it later than of its start.
    """

    tell: Callable[[FragmentStarted], object]
    telling: threading.RLock
    _untold: dict[int, tuple[Task, float]] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)  # of those that do not run any more
    _ended: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Begin to tell."""
        self._thread = threading.Thread(target=self._watch, name="mbexec-running", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody is told any more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def begun(self, task: Task) -> None:
        """Note that a task has begun; from any thread."""
        self._untold[task.index] = task, time.time()

    def done(self, index: int) -> None:
        """Note that a task does not run any more."""
        self._untold.pop(index, None)
        self._count += 1

    def _watch(self) -> None:
        pause, before = _MOMENT, 0
        while not self._ended.wait(pause):
            pause, before = _LONGER if self._count - before > _SHORT * pause else _MOMENT, self._count
            with self.telling:
                for index in list(self._untold):
                    if (begun := self._untold.pop(index, None)) is not None:
                        self.tell(FragmentStarted(*begun))
