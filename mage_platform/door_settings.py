"""Who may come in at the prediction API, and how much at once: the settings `PLATFORM_SIDECAR__*` of its door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class DoorSettings(BaseModel):
    """Keys, limits and patience of the prediction API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anonymous: bool = False
    """True answers requests without a key, whatever the environment. A local sidecar that listens on loopback does so
    anyway as long as there is no file `platform_api_keys` among the secrets; any other refuses to start without one."""
    docs: Literal["guarded", "open", "off"] = "guarded"
    """Who reads `/docs` and `/openapi.json`: callers whose key has the right `admin` (everybody where no key is
    needed), everybody, or nobody."""
    open_metrics: bool = False
    """True answers `/metrics` without a key; otherwise it takes one with the right `admin`, where keys are needed."""
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    """Requests a second that each key may make, and all callers without one together; no limit when left out. A key
    may have a limit of its own."""
    request_burst: Annotated[int, Field(ge=1)] | None = None
    """Requests that may come at once after a pause; what a second allows when left out."""
    maximum_under_way: Annotated[int, Field(ge=1)] = 4_000
    """Requests that are answered at the same time; one more is refused with 503. One takes about 0.1 ms."""
    maximum_waiting: Annotated[int, Field(ge=1)] = 10_000
    """Rows that may wait for the models; one more is refused with 503."""
    longest_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """A row that would wait longer than this for its model, by what rows take at the moment, is refused with 503."""
    body_memory_mib: Annotated[int, Field(ge=1)] = 512
    """Memory for long bodies that are on their way in or being answered, all together; more is refused with 503."""
    maximum_connections: Annotated[int, Field(ge=1)] = 10_000
    """Open connections; one more is answered 503 and closed. Fewer where the process may not open so many files."""
    patience_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a client may take to send its headers, to send its body, and to take a part of its answer, before it is
    cut off."""
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    """How long a connection may lie idle. Longer than the usual 60 s of load balancers, so that they close first and
    lose no request."""
