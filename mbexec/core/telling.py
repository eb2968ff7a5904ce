"""Log lines of a run, which must not cost it its results; structlog takes long to import, and comes with the first."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

__all__ = ["info", "warning"]


def info(event: str, **told: Any) -> None:
    """Log something that people may want to know."""
    _log("info", event, told)


def warning(event: str, **told: Any) -> None:
    """Log something that people should know."""
    _log("warning", event, told)


def _log(level: str, event: str, told: dict[str, Any]) -> None:
    with suppress(Exception):  # standard error may be full or gone, and an application's own logging may have bugs
        import structlog

        getattr(structlog.get_logger("mbexec"), level)(event, **told)
