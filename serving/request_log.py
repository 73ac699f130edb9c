"""One line of the log for each request, as JSON: what was asked of which model, how it ended, how long each part took.

Never a feature, a score or a key. On the event loop a request costs no more than being put in a queue; a thread writes
the lines out, so that a slow reader of the log holds up nobody. Where more comes than the log is meant to take, lines
are left out and counted: ordinary ones beyond so many a second, any that find the queue full.
"""

from __future__ import annotations

import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic_core import to_json

from mage_platform.sidecar_settings import SidecarSettings
from serving.calls import Call

log = structlog.get_logger()
MOST_WAITING = 10_000
WRITE_SECONDS = 0.1
"""Pause between two turns of the writing thread."""
TURN_LINES = 64
"""Lines written at once: few enough that the event loop need not wait for the interpreter."""
PROBES = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds by machines: they get a line only when they fail."""
_clock = time.perf_counter


class RequestLog:
    """Writes the lines: an observer of the front door.

    Args:
        settings: Which requests get a line.
        write: Takes whole lines.
    """

    def __init__(self, settings: SidecarSettings, write: Callable[[list[bytes]], object] | None = None) -> None:
        self.written = 0
        self.left_out = 0
        """Lines beyond so many a second."""
        self.dropped = 0
        """Lines that found the queue full, or could not be written."""
        self._all, self._off = settings.request_log == "all", settings.request_log == "off"
        self._slow_seconds = settings.request_log_slow_milliseconds / 1000
        self._most = settings.request_log_lines_a_second or sys.maxsize
        self._second, self._ordinary, self._notable = 0, 0, 0
        self._write = write or _to_standard_error
        self._queue: deque[tuple[Call, float]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and end. Returns soon also when nobody reads the log."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def answered(self, call: Call) -> None:
        """Take one request."""
        if self._off:
            return
        now = _clock()
        second = int(now)
        if second != self._second:
            self._second, self._ordinary, self._notable = second, 0, 0
        if call.status >= 400 or now - call.began > self._slow_seconds:
            self._notable += 1
            fits = self._notable <= self._most
        elif not self._all or call.route in PROBES:
            return
        else:
            self._ordinary += 1
            fits = self._ordinary <= self._most
        if not fits:
            self.left_out += 1
        elif len(self._queue) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._queue.append((call, now))

    def _run(self) -> None:
        while True:
            stopped = self._stop.wait(WRITE_SECONDS)
            while self._queue:
                zero = time.time() - _clock()  # moments are those of a clock without a date, which never jumps
                taken = [self._queue.popleft() for _ in range(min(TURN_LINES, len(self._queue)))]
                try:
                    self._write([_line(zero, call, ended) for call, ended in taken])
                    self.written += len(taken)
                except Exception:  # the edge of the thread: a log that cannot be written must not end the writing
                    self.dropped += len(taken)
            if stopped:
                return


def _line(zero: float, call: Call, ended: float) -> bytes:
    version = None if call.model is None else call.model.version
    line = {
        "event": "request answered",
        "request_id": call.id,
        "route": call.route,
        "status": call.status,
        "problem": call.problem or None,
        "use_case": call.use_case or None,
        "region": call.region or None,
        "model_region": None if version is None else version.region,
        "version": None if version is None else version.version,
        "variant": None if version is None else call.variant,
        "caller": None if call.caller is None else call.caller.name,
        "rows": call.rows,
        "cached": call.cached,
        "fallback": call.fallback,
        "parse_milliseconds": _milliseconds(call.began, call.parsed),
        "encode_milliseconds": _milliseconds(call.parsed, call.encoded),
        "score_milliseconds": _milliseconds(call.encoded, call.scored),
        "write_milliseconds": _milliseconds(call.scored, ended) if call.scored else None,
        "total_milliseconds": _milliseconds(call.began, ended),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
        "traceparent": _traceparent(call),
        "level": "warning" if call.status >= 500 else "info",
        "timestamp": datetime.fromtimestamp(zero + ended, UTC),
    }
    return to_json(line) + b"\n"


def _milliseconds(start: float, end: float) -> float | None:
    return round((end - start) * 1000, 3) if end else None


def _traceparent(call: Call) -> str | None:
    """What the caller said of the trace it is in, where that may stand in a log."""
    for name, value in call.headers:
        if name == b"traceparent" and len(value) <= 64 and value.isascii():
            return value.decode()
    return None


def _to_standard_error(lines: list[bytes]) -> None:
    """Write some lines, in pieces that no other writer to the same pipe can come between."""
    piece = b""
    for line in lines:
        if len(piece) + len(line) > select.PIPE_BUF:
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
            piece = b""
        piece += line
    sys.stderr.buffer.write(piece)
    sys.stderr.buffer.flush()
