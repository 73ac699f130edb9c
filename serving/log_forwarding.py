"""Lines that libraries write through the standard library's logging, in the form of our own."""

from __future__ import annotations

import logging

import structlog

# The server says once more what our own lines say; the pool repeats every failed attempt to connect, while a request
# that cannot be answered for it says so itself.
LEAST_SEVERITY = {"uvicorn": logging.WARNING, "psycopg.pool": logging.CRITICAL}


class ToStructlog(logging.Handler):
    """Hands each record on as a structured event."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        log = structlog.get_logger().bind(logger=record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def forward() -> None:
    """Send every record of the process to structlog; call it once, at the edge."""
    logging.basicConfig(handlers=[ToStructlog()], level=logging.WARNING, force=True)
    for name, severity in LEAST_SEVERITY.items():
        logging.getLogger(name).setLevel(severity)
