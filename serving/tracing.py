"""Traces by OpenTelemetry, when there is somewhere to send them; else nothing that makes or sends them is imported.

The only door to `opentelemetry`. Spans are made of a request's moments once it is answered, and sent in batches by a
thread of the library. The standard OTEL_* variables hold: where to, what share is sampled, further attributes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import structlog

from mage_platform import __version__
from mage_platform.errors import ServiceFailed
from mage_platform.sidecar_settings import SidecarSettings
from serving.calls import Call

log = structlog.get_logger()
STANDARD_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
STAGES = ("parse", "encode", "score", "write")
_clock = time.perf_counter


class Tracing:
    """Sends a span for each request, with one below it for each stage: an observer of the front door.

    Args:
        url: Where to, as OTLP over HTTP; None as the standard variables say.

    Raises:
        ServiceFailed: OpenTelemetry is not installed.
    """

    def __init__(self, url: str | None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ServiceFailed(f"traces are asked for, but {error}: install serving/requirements.txt") from error
        name = os.environ.get("OTEL_SERVICE_NAME") or "sidecar"
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.version": __version__}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("serving", __version__)
        self._context_of = TraceContextTextMapPropagator().extract
        self._child = trace.set_span_in_context
        self._server, self._error = trace.SpanKind.SERVER, trace.Status(trace.StatusCode.ERROR)

    @classmethod
    def of(cls, settings: SidecarSettings) -> Tracing | None:
        """Tracing as it is set up; None where it is not."""
        wanted = settings.traces_url or any(os.environ.get(name) for name in STANDARD_VARIABLES)
        off = (
            os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
            or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
        )
        if not wanted or off:
            return None
        log.info("traces are sent", url=settings.traces_url or "as the OTEL_* variables say")
        return cls(settings.traces_url)

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()

    def answered(self, call: Call) -> None:
        """Make the spans of one request."""
        now = _clock()
        # Nanoseconds since the epoch, of a clock that has no date.
        zero = time.time_ns() - int(now * 1e9)
        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in call.headers
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            call.route,
            self._context_of(carrier) if carrier else None,
            self._server,
            _attributes(call),
            start_time=zero + int(call.began * 1e9),
        )
        if span.is_recording():
            if call.status >= 500:
                span.set_status(self._error)
            context = self._child(span)
            start = call.began
            for stage, end in zip(STAGES, (call.parsed, call.encoded, call.scored, now), strict=True):
                if not end or (stage == "write" and not call.scored):
                    break
                child = self._tracer.start_span(stage, context, start_time=zero + int(start * 1e9))
                child.end(zero + int(end * 1e9))
                start = end
        span.end(zero + int(now * 1e9))


def _attributes(call: Call) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.route": call.route,
        "http.response.status_code": call.status,
        "http.request.body.size": call.bytes_in,
        "http.response.body.size": call.bytes_out,
        "request.id": call.id,
    }
    if call.problem:
        attributes["error.type"] = call.problem
    if call.model is not None:
        use_case, region, version = call.model.name
        attributes |= {
            "model.use_case": use_case,
            "model.region": region,
            "model.version": version,
            "model.variant": call.variant,
            "prediction.rows": call.rows,
        }
        if call.cached is not None:
            attributes["prediction.cached"] = call.cached
    return attributes
