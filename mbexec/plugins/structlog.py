"""The structlog reporter: what happens, as log events with fixed names."""

from __future__ import annotations

import sys
from typing import Any

import structlog
from attrs import define, field

from mbexec import FragmentDone, LevelDone, LevelStarted, MetricsEvent, RunDone, RunStarted, hookimpl

__all__ = ["Structlog"]


def _logger() -> Any:
    """The application's structlog if it is configured; else lines on standard error, away from results."""
    if structlog.is_configured():
        return structlog.get_logger("mbexec")
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))


@define(eq=False)
class Structlog:
    """Logs run, level and fragment events; fragments at debug level unless they fail."""

    _log: Any = field(factory=_logger, init=False)

    @hookimpl
    def report_metrics(self, event: MetricsEvent) -> None:
        """Log one event."""
        match event:
            case RunStarted():
                self._log = self._log.bind(run_id=event.run_id)
                ntasks = sum(count for _, count in event.levels)
                kept = {"store": event.store} if event.store else {}
                self._log.info("run_started", executor=event.executor, workers=event.workers, ntasks=ntasks, **kept)
            case LevelStarted():
                self._log.info("level_started", nbody=event.nbody, ntasks=event.ntasks)
            case FragmentDone():
                self._fragment(event)
            case LevelDone(level=level):
                self._log.info("level_done", nbody=level.nbody, ntasks=level.ntasks, failed=level.failed)
            case RunDone(report=report):
                wall = round(report.wall_time, 3)
                self._log.info("run_done", ntasks=report.ntasks, failed=report.failed, wall_time=wall)

    def _fragment(self, event: FragmentDone) -> None:
        label, error = event.task.label, event.result.error
        if error is not None:
            self._log.warning(
                "fragment_failed", label=label, error_type=error.error_type, error_message=error.error_message
            )
        else:
            wall = round(event.result.wall_time, 6)
            self._log.debug("fragment_done", label=label, wall_time=wall, reused=event.reused)
