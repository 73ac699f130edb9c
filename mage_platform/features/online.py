"""The newest stored vectors of one entity or many, for online predictions. Needs nothing but psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from mage_platform.contracts import FeatureVector
from mage_platform.database import Queries

QUERIES = Queries(Path(__file__).with_name("online.sql"))


async def latest_vector(
    connection: AsyncConnection[Any],
    *,
    use_case: str,
    region: str,
    entity_id: UUID,
    not_after: datetime | None = None,
) -> FeatureVector | None:
    """The newest vector of an entity.

    Args:
        connection: Best in autocommit mode: the read is a single statement.
        use_case: Only vectors of this use case,
        region: and of this region.
        entity_id: The entity.
        not_after: Latest event time that counts; with time zone. None takes the newest of all.

    Returns:
        The vector with its event time, or None when there is none.
    """
    parameters = {"entity_id": entity_id, "use_case": use_case, "region": region, "not_after": not_after}
    query = QUERIES.latest_vector if not_after is None else QUERIES.latest_vector_not_after
    row = await (await connection.execute(query, parameters)).fetchone()
    if row is None:
        return None
    return _vector(entity_id, *row)


async def latest_vectors(
    connection: AsyncConnection[Any], *, use_case: str, region: str, entity_ids: Sequence[UUID]
) -> dict[UUID, FeatureVector]:
    """The newest vector of each of some entities, in one round trip.

    Args:
        connection: As for one.
        use_case: Only vectors of this use case,
        region: and of this region.
        entity_ids: The entities, each once.

    Returns:
        The vectors by entity; an entity without one is left out.
    """
    parameters = {"entity_ids": list(entity_ids), "use_case": use_case, "region": region}
    cursor = await connection.execute(QUERIES.latest_vectors, parameters)
    return {row[0]: _vector(*row) for row in await cursor.fetchall()}


def _vector(entity_id: UUID, event_time: datetime, features: dict[str, Any]) -> FeatureVector:
    # In UTC whatever the time zone of the session, so that a vector is the same by whichever way it comes.
    return FeatureVector(entity_id=str(entity_id), event_time=event_time.astimezone(UTC), features=features)
