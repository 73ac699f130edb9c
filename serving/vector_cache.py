"""Stored vectors in the look-aside cache, each stamped with the generation of its use case.

A vector counts only while its generation is the present one (see `mage_platform.features.vector_cache`). Vectors and
generation come in one MGET; whatever is wrong with Redis, nothing is found and PostgreSQL is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic_core import from_json

from mage_platform.contracts import FeatureVector
from mage_platform.features.vector_cache import first_generation, generation_key, vector_key
from mage_platform.settings import Settings
from serving.cache import Cache, connect

MAXIMUM_READS = 8_192
"""Keys of one MGET: some requests of a thousand entities each may ride together."""
MAXIMUM_WRITES = 8_192


@dataclass
class VectorCounts:
    """What was found since the start. How often Redis failed stands in the counts of the cache below."""

    hits: int = 0
    misses: int = 0
    """Vectors not kept, or not to be had from Redis."""
    stale: int = 0
    """Vectors of an earlier generation; PostgreSQL was asked, as for a miss."""


@dataclass(frozen=True)
class Found:
    """What a read found."""

    generation: bytes | None = None
    """The present generation, which whatever is read from PostgreSQL now may be stamped with; None when unknown."""
    vectors: dict[UUID, FeatureVector] = field(default_factory=dict)


class VectorCache:
    """Newest vectors of entities, kept for a while.

    Args:
        cache: The way to Redis; closed with this one.
        ttl_seconds: How long a vector is kept at most.
    """

    def __init__(self, cache: Cache, ttl_seconds: int) -> None:
        self.cache = cache
        self._ttl_seconds = ttl_seconds
        self.counts = VectorCounts()

    async def read(self, use_case: str, region: str, entity_ids: Sequence[UUID]) -> Found:
        """The kept vectors of some entities, in one round trip. Entities without one are left out."""
        keys = [generation_key(use_case), *(vector_key(use_case, region, entity_id) for entity_id in entity_ids)]
        generation, *values = await self.cache.read_many(keys)
        if generation is None or not generation.isdigit():
            self._begin(use_case, generation)
            self.counts.misses += len(entity_ids)
            return Found()
        vectors = {}
        for entity_id, value in zip(entity_ids, values, strict=True):
            vector = None if value is None else self._unpack(value, generation, entity_id)
            if vector is not None:
                vectors[entity_id] = vector
            self.counts.misses += value is None
        self.counts.hits += len(vectors)
        return Found(generation, vectors)

    def keep(self, use_case: str, region: str, generation: bytes, vectors: Iterable[FeatureVector]) -> None:
        """Keep vectors, in the background.

        Args:
            use_case: Their use case,
            region: and region.
            generation: As it was before they were read from PostgreSQL.
            vectors: The newest of their entities.
        """
        for vector in vectors:
            key = vector_key(use_case, region, UUID(vector.entity_id))
            self.cache.write(key, generation + b"\n" + vector.model_dump_json().encode(), self._ttl_seconds)

    async def close(self) -> None:
        """End what is under way and give the connections back."""
        await self.cache.close()

    def _begin(self, use_case: str, generation: bytes | None) -> None:
        """Give a use case its first generation, for later readers: another reader's may be there before this one."""
        if generation is None:
            self.cache.write_if_absent(generation_key(use_case), first_generation())
        else:
            self.cache.refuse_value()
            self.cache.overwrite(generation_key(use_case), first_generation())

    def _unpack(self, value: bytes, generation: bytes, entity_id: UUID) -> FeatureVector | None:
        stamp, _, text = value.partition(b"\n")
        if stamp != generation and stamp.isdigit():
            self.counts.stale += 1
            return None
        vector = _parse(text, entity_id) if stamp == generation else None
        if vector is None:
            self.cache.refuse_value()
            self.counts.misses += 1
        return vector


def vector_cache(settings: Settings) -> VectorCache:
    """The cache on the Redis of the settings, with connections and a breaker of its own."""
    cache = Cache(connect(settings), maximum_reads=MAXIMUM_READS, maximum_writes=MAXIMUM_WRITES)
    return VectorCache(cache, settings.redis.vector_ttl_seconds)


def _parse(text: bytes, entity_id: UUID) -> FeatureVector | None:
    try:
        kept = from_json(text)
        if kept["entity_id"] != str(entity_id):
            return None
        event_time = datetime.fromisoformat(kept["event_time"])
        return FeatureVector(entity_id=kept["entity_id"], event_time=event_time, features=kept["features"])
    except (ValueError, TypeError, KeyError):  # ValueError has pydantic's own below it
        return None
