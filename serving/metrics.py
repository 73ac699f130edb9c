"""What is counted of every request. Added to on the event loop, so without locks; `serving.exposition` shows it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.calls import Call
from serving.histogram import SECONDS, Histogram
from serving.models import ServedModel

MOST_MODELS = 1_000
"""Model versions with counters of their own; all others share one set, so that the labels stay bounded."""
STAGES = ("parse", "encode", "score", "write")
OTHER = ("other", "other", "other", "other")
_clock = time.perf_counter

RequestKey = tuple[str, int, str]
"""Route, status, slug of the problem."""
ModelKey = tuple[str, ...]
"""Use case, region of the model, version, variant."""


class Times:
    """How long requests of one route took, in seconds."""

    __slots__ = (*STAGES, "total")

    def __init__(self) -> None:
        self.parse, self.encode, self.score, self.write = (Histogram(SECONDS) for _ in STAGES)
        self.total = Histogram(SECONDS)


@dataclass(slots=True)
class Tally:
    """What one model version answered, in rows."""

    answered: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Of the requests it answered, together."""


class RequestMetrics:
    """Counts requests: an observer of the front door."""

    def __init__(self) -> None:
        self.requests: dict[RequestKey, int] = {}
        self.times: dict[str, Times] = {}
        """By route."""
        self.models: dict[ModelKey, Tally] = {}

    def answered(self, call: Call) -> None:
        """Count one request."""
        now, began, route = _clock(), call.began, call.route
        key = (route, call.status, call.problem)
        self.requests[key] = self.requests.get(key, 0) + 1
        times = self.times.get(route)
        if times is None:
            times = self.times[route] = Times()
        times.total.observe(now - began)
        if parsed := call.parsed:
            times.parse.observe(parsed - began)
            if encoded := call.encoded:
                times.encode.observe(encoded - parsed)
                if scored := call.scored:
                    times.score.observe(scored - encoded)
                    times.write.observe(now - scored)
        model = call.model
        if model is not None:
            tally = self.tally(*model.name, call.variant)
            if call.status < 400:
                tally.answered += call.rows
                tally.seconds += now - began
                if call.cached:
                    tally.cached += call.rows
            elif call.status >= 500:  # what is below was the caller's doing, not the model's
                tally.failed += call.rows

    def shadowed(self, call: Call, model: ServedModel, score: Sequence[float]) -> None:
        """Count what a shadow scored beside an answer."""
        self.tally(*model.name, "shadow").answered += 1

    def tally(self, *key: str) -> Tally:
        """The counters of a model version in one part: use case, region of the model, version, variant."""
        tally = self.models.get(key)
        if tally is None:
            known = self.models
            tally = known.setdefault(key if len(known) < MOST_MODELS else OTHER, Tally())
        return tally
