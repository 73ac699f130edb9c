"""How the prediction API is seen from outside: the settings `PLATFORM_SIDECAR__*` of its logs and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """Lines, predictions and traces that the prediction API leaves behind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_log: Literal["all", "notable", "off"] = "all"
    """Which requests get a line in the log: all, only failed and slow ones, or none."""
    request_log_slow_milliseconds: Annotated[float, Field(gt=0)] = 250.0
    """A request that took longer is slow."""
    request_log_lines_a_second: Annotated[int, Field(ge=0)] = 50
    """Most lines a second, of ordinary requests and of notable ones each; the rest are counted. 0 is no limit."""
    prediction_log: bool = True
    """Whether predictions are kept in the database, each use case's share of them (`serving.log_predictions`)."""
    prediction_log_rows: Annotated[int, Field(ge=1)] = 20_000
    """Predictions that may wait for the database, of about 2 KiB each; more are dropped and counted."""
    traces_url: str | None = None
    """Where traces go by OTLP over HTTP, such as http://collector:4318/v1/traces. The standard OTEL_* variables work as
    well; without either there are none."""
