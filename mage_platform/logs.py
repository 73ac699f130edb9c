"""Logging: structlog through the standard library, for reading on a terminal and as JSON everywhere else."""

from __future__ import annotations

import logging
import sys

import structlog

from mage_platform.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Set up logging for this process; call it once, at the edge."""
    terminal = sys.stderr.isatty() and settings.environment == "local"
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level)),
        # A line and its end in one piece: other threads, and lines that do not come this way, may write between two.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
