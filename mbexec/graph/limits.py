"""How often nodes may start, and how often they may try."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import Attribute, field, frozen

__all__ = ["Limit", "Retry"]


class Limit:
    """A limit that nodes name: on how many of them run at once, on how many start in a time, or both.

    Graphs, event loops and threads may share it. Its attributes can be set while nodes run.

    Parameters
    ----------
    at_once
        How many run at once; None for any number.
    starts
        How many start in any stretch of `per` seconds, retries included; None for any number.
    per
        Seconds.
    """

    def __init__(self, at_once: int | None = None, *, starts: int | None = None, per: float = 60.0) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._started: deque[float] = deque()
        self._watchers: list[Callable[[], None]] = []
        self.at_once, self.starts, self.per = at_once, starts, per

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("at_once", "starts") and not (value is None or (isinstance(value, int) and value >= 1)):
            raise ValueError(f"{name} = {value!r} must be a whole number of at least 1, or None for no limit.")
        if name == "per" and not value > 0:
            raise ValueError(f"per = {value!r} must be a positive number of seconds.")
        super().__setattr__(name, value)
        if not name.startswith("_"):
            self._tell()

    def wait(self) -> float:
        """Seconds until a node may start: 0 for now, infinite if another one has to end first."""
        with self._lock:
            return self._wait()

    def take(self) -> bool:
        """Count a node that starts, if it may."""
        with self._lock:
            if self._wait():
                return False
            self._running += 1
            self._started.append(time.monotonic())
            return True

    def give_back(self, *, unused: bool = False) -> None:
        """Count a node that ended; with `unused`, one that did not start after all."""
        with self._lock:
            self._running -= 1
            if unused:
                self._started.pop()
        self._tell()

    def _wait(self) -> float:
        if self.at_once is not None and self._running >= self.at_once:
            return math.inf
        now = time.monotonic()
        while self._started and self._started[0] <= now - self.per:
            self._started.popleft()
        if self.starts is not None and len(self._started) >= self.starts:
            return max(self._started[-self.starts] + self.per - now, 1e-6)
        return 0.0

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call a function, from whatever thread, when a node may be able to start."""
        with self._lock:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            self._watchers.remove(watcher)

    def _tell(self) -> None:
        for watcher in tuple(self._watchers):
            watcher()


def _whole(retry: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{attribute.name} = {value!r} must be a whole number of at least 1.")


def _errors(retry: Any, attribute: Attribute[Any], value: tuple[Any, ...]) -> None:
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ValueError(f"{attribute.name} has {kind!r}; give classes of Exception, such as OSError.")


def _as_tuple(kinds: type[Exception] | Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    if isinstance(kinds, type) or not isinstance(kinds, Iterable) or isinstance(kinds, str):
        return (kinds,)
    return tuple(kinds)


def _at_least(least: float) -> Any:
    def _check(retry: Any, attribute: Attribute[Any], value: Any) -> None:
        if not value >= least:
            raise ValueError(f"{attribute.name} = {value!r} must be at least {least}.")

    return _check


def _fraction(retry: Any, attribute: Attribute[Any], value: Any) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} = {value!r} must lie between 0 and 1.")


@frozen
class Retry:
    """When to run a node again after a failure, each time on a fresh copy of the context.

    Attributes
    ----------
    attempts
        How often it runs at most.
    on
        Which errors are worth another attempt: exception classes.
    delay
        Seconds before the second attempt.
    factor
        How much longer each further wait is than the one before.
    longest
        Seconds that a wait is at most.
    jitter
        The part of each wait that is left to chance, 0 to 1: nodes that failed together don't come back together.
    """

    attempts: int = field(default=3, validator=_whole)
    on: tuple[type[Exception], ...] = field(default=(Exception,), converter=_as_tuple, validator=_errors)
    delay: float = field(default=0.1, validator=_at_least(0))
    factor: float = field(default=2.0, validator=_at_least(1))
    longest: float = field(default=60.0, validator=_at_least(0))
    jitter: float = field(default=0.5, validator=_fraction)

    def wait(self, error: Exception, failures: int) -> float | None:
        """Seconds to wait after so many failures, of which this was the last; None if that was the last attempt."""
        if failures >= self.attempts or not isinstance(error, self.on):
            return None
        longest = min(self.longest, self.delay * self.factor ** min(failures - 1, 1000))
        return longest * (1 - self.jitter * random.random())
