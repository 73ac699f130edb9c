"""The newest stored vector of one entity, for an online prediction. Needs nothing but psycopg."""

from __future__ import annotations

from datetime import datetime
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
    return FeatureVector(entity_id=str(entity_id), event_time=row[0], features=row[1])
