"""The structlog reporter: what happens, as log events with fixed names."""

from __future__ import annotations

import sys
from typing import Any

import structlog
from attrs import define, field

from mbexec import (
    FragmentDone,
    FragmentHeld,
    FragmentStarted,
    LevelDone,
    LevelReport,
    LevelStarted,
    MetricsEvent,
    RunDone,
    RunReport,
    RunStarted,
    TaskError,
    TasksLeftOut,
    hookimpl,
)

__all__ = ["Structlog"]

_DIGITS = 6
_COUNTS = ("ntasks", "duplicates", "executed", "reused", "failed", "left_out")
_OF_A_LEVEL = ("nbody", *_COUNTS, "wall_time", "cpu_time", "longest", "imbalance")
_OF_A_RUN = (
    *("executor", "workers", *_COUNTS, "retried", "wall_time", "fragment_time"),
    *("serial_time", "speedup", "efficiency", "contention", "critical_path", "bound", "imbalance"),
    *("startup", "finishing", "idle", "retry_time", "worker_memory", "memory", "bytes_moved"),
)


def _logger() -> Any:
    """The application's structlog if it is configured; else lines on standard error, away from results."""
    if structlog.is_configured():
        return structlog.get_logger("mbexec")
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))


@define(eq=False)
class Structlog:
    """Logs run, level and fragment events; fragments at debug level unless they fail.

    The last line, ``run_done``, has all figures of the run's report, but for those that were not measured.
    """

    _log: Any = field(factory=_logger, init=False)

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Log one event."""
        match event:
            case RunStarted():
                self._log = self._log.bind(run_id=event.run_id)
                kept = {"store": event.store} if event.store else {}
                ntasks = sum(number for _, number in event.levels)
                self._log.info("run_started", executor=event.executor, workers=event.workers, ntasks=ntasks, **kept)
            case LevelStarted():
                self._log.info("level_started", nbody=event.nbody, ntasks=event.ntasks)
            case FragmentStarted():
                self._log.debug("fragment_started", label=event.task.label)
            case FragmentHeld():
                self._log.info("fragment_held", label=event.task.label, **_told(event.result.error))
            case FragmentDone():
                self._fragment(event)
            case TasksLeftOut(indices=indices):
                self._log.info("tasks_left_out", ntasks=len(indices))
            case LevelDone(level=level):
                self._log.info("level_done", **_figures(level, _OF_A_LEVEL))
            case RunDone(report=report, result=result):
                self._log.info("run_done", success=bool(result.success), **_figures(report, _OF_A_RUN))

    def _fragment(self, event: FragmentDone) -> None:
        label, error = event.task.label, event.result.error
        if error is not None:
            self._log.warning("fragment_failed", label=label, reused=event.reused, **_told(error))
        else:
            wall = round(event.result.wall_time, _DIGITS)
            self._log.debug("fragment_done", label=label, wall_time=wall, reused=event.reused)


def _told(error: TaskError | None) -> dict[str, str]:
    return {} if error is None else {"error_type": error.error_type, "error_message": error.error_message}


def _figures(report: LevelReport | RunReport, names: tuple[str, ...]) -> dict[str, Any]:
    """Those that there are."""
    found = {name: getattr(report, name) for name in names}
    rounded = {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in found.items()}
    return {name: value for name, value in rounded.items() if value is not None}
