"""Looking into the feature store: what is kept of one entity, and how much there is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime

from mage_platform.contracts import FeatureVector
from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import EntityNotFound

QUERIES = Queries(Path(__file__).with_name("history.sql"))


class StoredVector(Contract):
    """A vector as the feature store keeps it, with its label where one is known."""

    use_case: str
    region: str
    vector: FeatureVector
    ingested_at: AwareDatetime
    label: Any = None
    known_at: AwareDatetime | None = None


def newest_vector(connection: Connection, entity_id: UUID, *, as_of: datetime | None = None) -> StoredVector:
    """The newest vector of an entity, not after `as_of`.

    Raises:
        EntityNotFound: None is stored.
    """
    row = connection.execute(QUERIES.newest_vector, {"entity_id": entity_id, "as_of": as_of}).fetchone()
    if row is None:
        until = f" up to {as_of.isoformat()}" if as_of else ""
        raise EntityNotFound(f"no feature vector of entity {entity_id} is stored{until}", field="entity_id")
    vector = FeatureVector(entity_id=str(row[2]), event_time=row[3], features=row[4])
    return StoredVector(
        use_case=row[0], region=row[1], vector=vector, ingested_at=row[5], label=row[6], known_at=row[7]
    )


def count_vectors(connection: Connection, use_case: str) -> int:
    """How many vectors of a use case are stored."""
    row = connection.execute(QUERIES.count_vectors, {"use_case": use_case}).fetchone()
    return int(row[0]) if row else 0


def an_entity(connection: Connection, use_case: str, region: str) -> UUID | None:
    """Some entity of a region, the newest labelled one; None when the region has none."""
    row = connection.execute(QUERIES.an_entity, {"use_case": use_case, "region": region}).fetchone()
    return row[0] if row else None
