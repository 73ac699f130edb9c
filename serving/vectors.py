"""Stored vectors for predictions by entity: a small pool of connections in the event loop."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_core import from_json

from mage_platform.contracts import FeatureVector
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features.online import latest_vector
from mage_platform.settings import Settings
from serving.encoding import Fault
from serving.problems import VectorNotStored

WAIT_SECONDS = 2.0
"""How long a request waits for a connection before it is told to come again."""


class StoredVectors:
    """Reads from the feature store.

    Args:
        settings: Where PostgreSQL (or PgBouncer) is. It need not be reachable yet.
    """

    def __init__(self, settings: Settings) -> None:
        database, password = settings.database, settings.database_password
        self._address = f"{database.host}:{database.port}"
        self._pool = AsyncConnectionPool(
            kwargs={
                "host": database.host,
                "port": database.port,
                "dbname": database.name,
                "user": database.user,
                "password": password.get_secret_value() if password else None,
                "connect_timeout": max(2, round(database.connect_timeout_seconds)),
                "application_name": "mage_platform sidecar",
                "autocommit": True,
                "prepare_threshold": None,  # PgBouncer may send the next statement to another server connection
            },
            configure=_configure,
            min_size=1,
            max_size=database.pool_size,
            timeout=WAIT_SECONDS,
            reconnect_timeout=3,  # then the next request that needs a connection begins anew
            name="stored vectors",
            open=False,
        )

    async def open(self) -> None:
        """Begin to connect, in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def latest(self, use_case: str, region: str, entity_id: UUID, not_after: datetime | None) -> FeatureVector:
        """The newest vector of an entity, not later than `not_after` where that is given.

        Raises:
            VectorNotStored: There is none.
            DatabaseUnavailable: PostgreSQL did not answer.
        """
        try:
            vector = await self._read(use_case, region, entity_id, not_after)
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise DatabaseUnavailable(
                f"PostgreSQL at {self._address} did not answer, so the stored vector of entity {entity_id} cannot "
                "be looked up: send `features`, or try again"
            ) from error
        if vector is None:
            until = "" if not_after is None else f" not later than {not_after.isoformat()}"
            raise VectorNotStored(
                f"no feature vector of entity {entity_id}{until} is stored for use case {use_case!r}, region "
                f"{region!r}: send `features`, or check the entity id",
                Fault("entity_id", "has no stored feature vector", str(entity_id)),
            )
        return vector

    async def _read(
        self, use_case: str, region: str, entity_id: UUID, not_after: datetime | None
    ) -> FeatureVector | None:
        wanted = {"use_case": use_case, "region": region, "entity_id": entity_id, "not_after": not_after}
        for attempt in (1, 2):
            async with self._pool.connection() as connection:
                try:
                    return await latest_vector(connection, **wanted)  # type: ignore[arg-type]
                except psycopg.OperationalError:
                    if attempt == 2 or not (connection.broken or connection.closed):
                        raise
            # The connection died with a server that may be back by now: sort out its siblings, try once more.
            await self._pool.check()
        raise AssertionError("unreachable")


async def _configure(connection: AsyncConnection[Any]) -> None:
    set_json_loads(from_json, connection)
