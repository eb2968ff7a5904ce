"""How the command line logs: lines for people on a terminal, JSON elsewhere, always on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

__all__ = ["configure"]


class _Current:
    """Standard error as it is at the moment: whoever draws there puts something else in its place meanwhile."""

    def write(self, text: str) -> int:
        """As a file has it."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """The same."""
        sys.stderr.flush()


def configure(level: int = logging.INFO) -> None:
    """Configure structlog for this process."""
    import structlog

    people = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Current())),
    )
