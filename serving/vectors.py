"""Stored vectors for predictions by entity: from the cache, else from PostgreSQL by a small pool in the event loop.

Readers that miss the same vector at one moment share one query, and what it found is kept for those that come later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_core import from_json

from mage_platform.contracts import FeatureVector
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features.online import latest_vector, latest_vectors
from mage_platform.settings import Settings
from serving.cache import Cache
from serving.encoding import Fault
from serving.problems import VectorNotStored
from serving.vector_cache import VectorCache, VectorCounts

WAIT_SECONDS = 2.0
"""How long a request waits for a connection before it is told to come again."""
LINGER_SECONDS = 0.05
"""What a query found serves readers of the same generation this much longer: until the cache surely has it too."""

Vectors = Mapping[UUID, FeatureVector]
Flight = tuple[str, str, UUID, bytes | None]
"""Whose vector is being read, and under which generation: a reader from after an ingest joins no read from before."""
T = TypeVar("T")


class StoredVectors:
    """Reads from the feature store.

    Args:
        settings: Where PostgreSQL (or PgBouncer) is. It need not be reachable yet.
        cache: Asked first; closed with this one.
    """

    def __init__(self, settings: Settings, cache: VectorCache) -> None:
        self._cache = cache
        self._under_way: dict[Flight, asyncio.Task[Vectors]] = {}
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
        """Close the connections, to the cache as well."""
        tasks = set(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cache.close()
        await self._pool.close()

    @property
    def counts(self) -> VectorCounts:
        """What the cache found since the start."""
        return self._cache.counts

    @property
    def cache(self) -> Cache:
        """The way to Redis."""
        return self._cache.cache

    async def latest(self, use_case: str, region: str, entity_id: UUID, not_after: datetime | None) -> FeatureVector:
        """The newest vector of an entity, not later than `not_after` where that is given.

        Raises:
            VectorNotStored: There is none.
            DatabaseUnavailable: PostgreSQL did not answer.
        """
        vector = (await self.latest_many(use_case, region, [entity_id])).get(entity_id)
        if vector is not None and not_after is not None and vector.event_time > not_after:
            # Only the newest of all is kept. An entity without a newest vector has no earlier one either.
            vector = await self._ask(
                lambda connection: latest_vector(
                    connection, use_case=use_case, region=region, entity_id=entity_id, not_after=not_after
                ),
                [entity_id],
            )
        if vector is None:
            until = "" if not_after is None else f" not later than {not_after.isoformat()}"
            raise VectorNotStored(
                f"no feature vector of entity {entity_id}{until} is stored for use case {use_case!r}, region "
                f"{region!r}: send `features`, or check the entity id",
                Fault("entity_id", "has no stored feature vector", str(entity_id)),
            )
        return vector

    async def latest_many(self, use_case: str, region: str, entity_ids: Sequence[UUID]) -> dict[UUID, FeatureVector]:
        """The newest vectors of some entities: one round trip to the cache, and one to PostgreSQL for what it lacks.

        Returns:
            The vectors by entity; an entity without one is left out.

        Raises:
            DatabaseUnavailable: PostgreSQL was needed and did not answer.
        """
        wanted = list(dict.fromkeys(entity_ids))
        found = await self._cache.read(use_case, region, wanted)
        vectors = dict(found.vectors)
        missed = [entity_id for entity_id in wanted if entity_id not in vectors]
        if missed:
            tasks = self._loads(use_case, region, missed, found.generation)
            for entity_id, task in tasks.items():
                # Shielded: one caller's cancellation must not cancel the others that wait for the same query.
                loaded = task.result() if task.done() else await asyncio.shield(task)
                if (vector := loaded.get(entity_id)) is not None:
                    vectors[entity_id] = vector
        return vectors

    def _loads(
        self, use_case: str, region: str, entity_ids: Sequence[UUID], generation: bytes | None
    ) -> dict[UUID, asyncio.Task[Vectors]]:
        """The query each entity's vector comes from: one that is under way, or one new query for all the others."""
        flights = {entity_id: (use_case, region, entity_id, generation) for entity_id in entity_ids}
        new = {entity_id: flight for entity_id, flight in flights.items() if flight not in self._under_way}
        if new:
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._load(use_case, region, list(new), generation))
            self._under_way.update(dict.fromkeys(new.values(), task))
            task.add_done_callback(lambda _: self._land(loop, task, list(new.values()), generation))
        return {entity_id: self._under_way[flight] for entity_id, flight in flights.items()}

    def _land(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Vectors],
        flights: Sequence[Flight],
        generation: bytes | None,
    ) -> None:
        def forget() -> None:
            for flight in flights:
                del self._under_way[flight]

        if generation is None or task.cancelled() or task.exception() is not None:
            forget()
        else:
            loop.call_later(LINGER_SECONDS, forget)

    async def _load(
        self, use_case: str, region: str, entity_ids: Sequence[UUID], generation: bytes | None
    ) -> dict[UUID, FeatureVector]:
        if len(entity_ids) == 1:
            (entity_id,) = entity_ids
            # A query of its own: with the id in it as a constant the planner looks at a single partition.
            vector = await self._ask(
                lambda connection: latest_vector(connection, use_case=use_case, region=region, entity_id=entity_id),
                entity_ids,
            )
            vectors = {} if vector is None else {entity_id: vector}
        else:
            vectors = await self._ask(
                lambda connection: latest_vectors(connection, use_case=use_case, region=region, entity_ids=entity_ids),
                entity_ids,
            )
        if generation is not None:
            # Absence is not kept: ids that nobody ever stored would fill the cache.
            self._cache.keep(use_case, region, generation, vectors.values())
        return vectors

    async def _ask(self, read: Callable[[AsyncConnection[Any]], Awaitable[T]], entity_ids: Sequence[UUID]) -> T:
        """Read from PostgreSQL.

        Raises:
            DatabaseUnavailable: It did not answer.
        """
        try:
            return await self._try_twice(read)
        except (psycopg.OperationalError, PoolTimeout) as error:
            whose = (
                f"vector of entity {entity_ids[0]}"
                if len(entity_ids) == 1
                else f"vectors of {len(entity_ids)} entities"
            )
            raise DatabaseUnavailable(
                f"PostgreSQL at {self._address} did not answer, so the stored {whose} cannot be looked up: "
                "send `features`, or try again"
            ) from error

    async def _try_twice(self, read: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        for attempt in (1, 2):
            async with self._pool.connection() as connection:
                try:
                    return await read(connection)
                except psycopg.OperationalError:
                    if attempt == 2 or not (connection.broken or connection.closed):
                        raise
            # The connection died with a server that may be back by now: sort out its siblings, try once more.
            await self._pool.check()
        raise AssertionError("unreachable")


async def _configure(connection: AsyncConnection[Any]) -> None:
    set_json_loads(from_json, connection)
