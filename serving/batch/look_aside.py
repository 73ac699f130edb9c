"""The look-aside cache for batches: keys of many rows, read by MGET."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from mage_platform.settings import CachePolicy
from serving.batch.columns import Floats
from serving.cache import Cache
from serving.cache_policy import takes_part
from serving.models import ServedModel

CACHED_ROWS = 2_048
"""Larger batches leave the cache out: they would push out what single predictions have there."""
MGET_KEYS = 256


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
            values = await self._cache.read_many([keys[row] for row in rows])
            for row, value in zip(rows, values, strict=True):
                kept = None if value is None else model.from_cache(value)
                if value is not None and kept is None:
                    self._cache.refuse_value()
                model.hit_share.observe(hit=kept is not None)
                if kept is not None:
                    scores[row, : len(kept)] = kept
                    open_rows[row] = False
                    hits += 1
        return hits

    async def keep(self, model: ServedModel, keys: list[str], scores: Floats, fresh: Any) -> None:
        """Keep the scores of fresh rows, in the background."""
        rows = np.flatnonzero(fresh).tolist()
        for begin in range(0, len(rows), MGET_KEYS):
            for row in rows[begin : begin + MGET_KEYS]:
                self._cache.write(keys[row], model.cache_value(scores[row].tolist()), model.version.cache_ttl_seconds)
            await asyncio.sleep(0)

    def asked(self, rows: int, model: ServedModel) -> bool:
        """As for single predictions, but no row is sampled: those that are keep the measurements alive."""
        if rows > CACHED_ROWS or self._policy == "off" or not self._cache.open:
            return False
        return takes_part(
            self._policy,
            "ff",
            hit_share=model.hit_share.value,
            read_seconds=self._cache.read_seconds,
            score_seconds=model.lane.model.seconds_per_row,
        )


def keys_of(model: ServedModel, rows: Floats) -> list[str]:
    """The key of each row. Takes a microsecond for each, so it is done in a thread."""
    return [model.cache_key(row.tobytes()) for row in rows]
