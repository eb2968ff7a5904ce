"""The settings of a run, frozen; where their values come from is in :mod:`mbexec.core.config`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import field, frozen

__all__ = [
    "RunConfig",
    "RunSettings",
    "TaskSettings",
    "is_not_negative",
    "is_order",
    "is_positive",
    "is_text",
    "is_whole",
]


def is_whole(minimum: float = -math.inf) -> Callable[[Any], bool]:
    """A test for whole numbers from `minimum` up."""
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= minimum


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def is_not_negative(value: Any) -> bool:
    """Whether it is a finite number from 0 up."""
    return is_positive(value) or (isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0)


def is_text(value: Any) -> bool:
    """Whether it is text, and not empty."""
    return isinstance(value, str) and bool(value)


def is_order(key: Any) -> bool:
    """Whether a key is a number of bodies as one writes it: 1 but not 01, which would be two names for one table."""
    return re.fullmatch("[1-9][0-9]*", str(key)) is not None


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(is_text(v) for v in value)


def _setting(default: Any, allowed: str, test: Callable[[Any], bool]) -> Any:
    return field(default=default, metadata={"allowed": allowed, "test": test})


@frozen
class RunSettings:
    """``[run]``: which plugins take part, and how many workers.

    Attributes
    ----------
    executor, planner
        Names of plugins.
    reporters
        Names of the plugins that hear what happens.
    store
        Name of a plugin that keeps results; None for none. Where it is given as a path, the plugin is "sqlite".
    retry_failed
        Whether fragments that failed in an earlier run, as the store remembers, run again.
    on_error
        "continue": run everything, then report what failed; "stop": at the first failed fragment start nothing new.
    workers
        How many fragments may run at once. The default is for settings made by hand; a run's are as many as the
        machine grants.
    schedule
        "cost": fragments that don't depend on each other run together, costliest first; "nbody": monomers, dimers,
        ... one level after the other.
    grace
        Seconds that running fragments have to finish when the command line is told to stop (Ctrl-C, SIGTERM).
    """

    executor: str = _setting("threads", "the name of an executor", is_text)
    planner: str = _setting("manybody", "the name of a planner", is_text)
    reporters: tuple[str, ...] = _setting((), "the name of a reporter, or a list of names", _is_names)
    store: str | None = _setting(
        None, "a path, the name of a store, or false for none", lambda v: v is None or v is False or is_text(v)
    )
    retry_failed: bool = _setting(True, "true or false", lambda v: isinstance(v, bool))
    on_error: str = _setting("continue", '"continue" or "stop"', lambda v: v in ("continue", "stop"))
    workers: int = _setting(1, "a whole number from 1 up", is_whole(1))
    schedule: str = _setting("cost", '"cost" or "nbody"', lambda v: v in ("cost", "nbody"))
    grace: float = _setting(25.0, "a number of seconds from 0 up", is_not_negative)


@frozen
class TaskSettings:
    """``[task]``: what one fragment calculation may use; QCEngine's names.

    Attributes
    ----------
    ncores
        Cores.
    memory
        GiB. The default is for settings made by hand; a run's are a worker's share of what the machine grants.
    timeout
        Seconds an attempt may take; None for no limit.
    retries
        How often a random_error is tried again.
    scratch_directory
        Where programs put their files; None for the system's choice.
    nnodes
        Nodes, for programs that run under MPI.
    """

    ncores: int = _setting(1, "a whole number from 1 up", is_whole(1))
    memory: float = _setting(1.0, "a number of GiB above 0", is_positive)
    timeout: float | None = _setting(None, "a number of seconds above 0", is_positive)
    retries: int = _setting(0, "a whole number from 0 up", is_whole(0))
    scratch_directory: str | None = _setting(None, "a path", is_text)
    nnodes: int = _setting(1, "a whole number from 1 up", is_whole(1))

    def as_qcengine(self) -> dict[str, Any]:
        """Those of the settings that QCEngine's TaskConfig has."""
        return attrs.asdict(self, filter=attrs.filters.exclude("timeout"))


@frozen
class RunConfig:
    """All settings of a run.

    Attributes
    ----------
    run, task
        The tables of the job file.
    task_of
        ``[task.N]``: the whole settings of fragments of N bodies, where they differ from those of `task`.
    plugin
        ``[plugin.NAME]`` tables by name; those of plugins that take no part are not looked at.
    sources
        Where each setting's value is from, by dotted key.
    """

    run: RunSettings
    task: TaskSettings
    task_of: Mapping[int, TaskSettings] = field(factory=dict)
    plugin: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    sources: Mapping[str, str] = field(factory=dict)
