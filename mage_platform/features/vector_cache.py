"""What ingest and sidecar agree on about vectors in Redis: their keys, and the generation that makes them all old.

The sidecar stamps each vector it keeps with the generation of its use case, read before the vector itself was read
from PostgreSQL; only a vector with the present generation counts. An ingest therefore renews every vector of its use
case by raising one number, and a sidecar that had read just before the commit keeps a vector that never counts.
"""

from __future__ import annotations

import time
from uuid import UUID

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from mage_platform.settings import Settings

log = structlog.get_logger()
PATIENCE_SECONDS = 1.0
"""An ingest waits longer than a request would: vectors that are not forgotten are served until their TTL ends."""


def generation_key(use_case: str) -> str:
    """Redis key of a use case's generation, a whole number."""
    return f"vector_generation:{use_case}"


def vector_key(use_case: str, region: str, entity_id: UUID) -> str:
    """Redis key of an entity's newest vector in a region.

    >>> vector_key("rides", "Bern", UUID(int=1))
    'vector:rides:00000000-0000-0000-0000-000000000001:Bern'
    """
    return f"vector:{use_case}:{entity_id}:{region}"


def first_generation() -> bytes:
    """Generation of a use case that has none: the time in microseconds.

    Redis may lose the number alone (it evicts single keys). Begun at 1 again, it would some day meet vectors that
    were stamped with the same small number long ago; begun at the present time it is above all it ever was.
    """
    return str(time.time_ns() // 1000).encode()


def forget(settings: Settings, use_case: str) -> None:
    """Let no sidecar answer from vectors of a use case that it read before now; call it after the commit.

    When Redis does not answer this is a warning: the TTL then bounds how long old vectors are answered from.
    """
    key = generation_key(use_case)
    try:
        with _connect(settings) as server:
            pipeline = server.pipeline(transaction=False)
            pipeline.set(key, first_generation(), nx=True)
            pipeline.incr(key)
            if isinstance(pipeline.execute(raise_on_error=False)[1], ResponseError):
                server.set(key, first_generation())  # it held something else than a number
    except Exception as error:  # the edge: the vectors are stored, whatever the cache does
        log.warning(
            "stored vectors not forgotten",
            use_case=use_case,
            error=f"{type(error).__name__}: {error}",
            stale_seconds=settings.redis.vector_ttl_seconds,
        )


def _connect(settings: Settings) -> Redis:
    redis, password = settings.redis, settings.redis_password
    return Redis(
        host=redis.host,
        port=redis.port,
        db=redis.database,
        password=password.get_secret_value() if password else None,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
