"""How the command line logs: lines for people on a terminal, JSON elsewhere, always on standard error."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["configure"]


def configure(level: int = logging.INFO) -> None:
    """Configure structlog for this process."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
