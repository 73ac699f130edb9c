"""The look-aside cache for batches: keys of many rows, read by MGET."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from mage_platform.contracts.models import CachePolicy
from serving.batch.columns import Floats
from serving.cache import SILENCE, Cache
from serving.models import ServedModel

CACHED_ROWS = 2_048
"""Larger batches leave the cache out: they would push out what single predictions have there."""
MGET_KEYS = 256
UNSAMPLED = b"a"
"""A row that is not one of those that are asked for in any case."""


class LookAside:
    """Asks the cache for the rows of a batch. Used from the event loop alone.

    Args:
        cache: The cache.
        policy: When it takes part.
    """

    def __init__(self, cache: Cache, policy: CachePolicy) -> None:
        self._cache = cache
        self._policy: CachePolicy = policy

    async def read(self, model: ServedModel, keys: list[str], scores: Floats, open_rows: Any) -> int:
        """Take over what the cache has; the rows that it has are open no longer."""
        hits, wanted = 0, np.flatnonzero(open_rows).tolist()
        for begin in range(0, len(wanted), MGET_KEYS):
            rows = wanted[begin : begin + MGET_KEYS]
            values = await self._cache.look_up_many([keys[row] for row in rows])
            hits += sum(
                self._take(model, keys[row], row, value, scores, open_rows)
                for row, value in zip(rows, values, strict=True)
            )
        return hits

    def _take(self, model: ServedModel, key: str, row: int, value: Any, scores: Floats, open_rows: Any) -> bool:
        use = model.cache_use
        if value is SILENCE:
            use.silent += 1
            return False
        kept = None if value is None else model.from_cache(key, value)
        use.found(hit=kept is not None)
        if kept is not None:
            scores[row, : len(kept)] = kept
            open_rows[row] = False
        elif value is not None:
            use.refused += 1
            self._cache.refuse_value()
        return kept is not None

    async def keep(self, model: ServedModel, keys: list[str], scores: Floats, fresh: Any) -> None:
        """Keep the scores of fresh rows, in the background."""
        rows = np.flatnonzero(fresh).tolist()
        for begin in range(0, len(rows), MGET_KEYS):
            for row in rows[begin : begin + MGET_KEYS]:
                self._cache.write(
                    keys[row], model.cache_value(keys[row], scores[row].tolist()), model.version.cache_ttl_seconds
                )
            await asyncio.sleep(0)

    def asked(self, rows: int, model: ServedModel) -> bool:
        """As for single predictions, but no row is sampled: those that are keep the measurements alive."""
        policy = model.version.cache_policy or self._policy
        if rows > CACHED_ROWS or policy == "off" or not self._cache.open:
            return False
        measured = model.lane.model.seconds_per_row
        return model.cache_use.asks(policy, UNSAMPLED, read_seconds=self._cache.read_seconds, score_seconds=measured)


def keys_of(model: ServedModel, rows: Floats) -> list[str]:
    """The key of each row. Takes a microsecond for each, so it is done in a thread."""
    return [model.cache_key(row.tobytes()) for row in rows]
