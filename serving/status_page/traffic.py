"""What became of the requests of each version since the process started."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serving.calls import Call

Key = tuple[str, str, int]
"""Use case, region and version of the model that answered."""
MOST_VERSIONS = 20_000
_clock = time.perf_counter


@dataclass(slots=True)
class Count:
    """The requests of one version."""

    requests: int = 0
    predictions: int = 0
    """Rows of the answered requests."""
    refused: int = 0
    seconds: float = 0.0
    """Of all requests together, from the first byte to the answer."""
    asked: int = 0
    """Answered requests that a cache could have answered,"""
    cached: int = 0
    """and those that it did."""


class Traffic:
    """Counts the requests whose model is known. An observer of the front door."""

    def __init__(self) -> None:
        self.counts: dict[Key, Count] = {}

    def answered(self, call: Call) -> None:
        """See `Observer`."""
        if call.model is None:
            return
        version = call.model.version
        key = (version.use_case, version.region, version.version)
        count = self.counts.get(key) or self._new(key)
        count.requests += 1
        count.seconds += _clock() - call.began
        if call.status >= 400:
            count.refused += 1
            return
        count.predictions += call.rows
        if call.cached is not None:
            count.asked += 1
            count.cached += call.cached

    def _new(self, key: Key) -> Count:
        if len(self.counts) >= MOST_VERSIONS:  # those of long ago give way
            del self.counts[next(iter(self.counts))]
        return self.counts.setdefault(key, Count())
