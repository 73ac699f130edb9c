"""The prediction log: what was predicted, from which vector, by which version. Written by the sidecar, read by whoever
holds predictions against what really happened."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime

from mage_platform.contracts.strict import Contract
from mage_platform.database.connections import Connection
from mage_platform.database.queries import Queries

_QUERIES = Queries(Path(__file__).with_suffix(".sql"))


class LoggedPrediction(Contract):
    """One prediction as it was answered."""

    asked_at: AwareDatetime
    request_id: str
    use_case: str
    region: str
    """Of the request."""
    model_region: str
    """Of the model, `*` where the pooled one answered."""
    version: int
    variant: str
    """`champion`, or what else the version was for this request."""
    entity_id: UUID
    event_time: AwareDatetime | None
    """Of the stored vector, else what the request named."""
    feature_vector: dict[str, Any]
    prediction: str | float
    probabilities: dict[str, float] | None
    cached: bool


def add_predictions(connection: Connection, batch: UUID, lines: str) -> None:
    """Write a batch; the same batch again changes nothing.

    Args:
        connection: One that commits by itself, or whose caller does.
        batch: Its id.
        lines: A JSON array with an array for each prediction: seconds since the epoch, request id, use case, region,
            region of the model, version, variant, entity id, event time or null, feature vector, prediction,
            probabilities or null, cached.
    """
    connection.execute(_QUERIES.add_predictions, {"batch": batch, "lines": lines})


def newest_predictions(
    connection: Connection,
    *,
    use_case: str | None = None,
    region: str | None = None,
    entity_id: UUID | None = None,
    limit: int = 20,
) -> list[LoggedPrediction]:
    """What was predicted last, newest first; each argument narrows the list."""
    parameters = {"use_case": use_case, "region": region, "entity_id": entity_id, "limit": limit}
    cursor = connection.execute(_QUERIES.newest_predictions, parameters)
    names = [column.name for column in cursor.description or ()]
    return [LoggedPrediction(**dict(zip(names, row, strict=True))) for row in cursor]


def drop_predictions(
    connection: Connection, use_case: str, keep_days: int, now: datetime, *, dry_run: bool = False
) -> int:
    """Drop what is older than a use case keeps, in the caller's transaction.

    Returns:
        Rows dropped, or that would be.
    """
    parameters = {"use_case": use_case, "before": now - timedelta(days=keep_days)}
    if dry_run:
        row = connection.execute(_QUERIES.count_predictions, parameters).fetchone()
        return int(row[0]) if row else 0
    return connection.execute(_QUERIES.drop_predictions, parameters).rowcount
