"""The running parts of the sidecar: put together when it starts, taken apart in the opposite order when it stops."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from mage_platform.settings import Settings
from serving import jvm
from serving.cache import Cache, connect
from serving.calls import Observer
from serving.explainers import Explainers
from serving.explanations import Explanations
from serving.exposition import Exposition, Watched
from serving.keys import Keyring
from serving.metrics import RequestMetrics
from serving.prediction import Predictions
from serving.prediction_log import PredictionLog
from serving.registry_source import ChampionSource
from serving.repository import Repository
from serving.request_log import RequestLog
from serving.scorer import Scorer
from serving.tracing import Tracing
from serving.vector_cache import vector_cache
from serving.vectors import StoredVectors

# Python lets a thread keep the interpreter for 5 ms when another wants it; a batch would wait that long to begin.
SWITCH_INTERVAL_SECONDS = 0.0005
MOST_EXPLANATIONS_WAITING = 1_000


@dataclass
class Parts:
    """What `create_app` made before the event loop ran, and what runs on it.

    Args:
        settings: Of this process.
        source: Where champions come from.
        repository: The served models.
        keys: Of the callers.
        requests: Counts them.
        request_log: Writes a line for each.
        exposition: Tells of all of it.
    """

    settings: Settings
    source: ChampionSource
    repository: Repository
    keys: Keyring
    requests: RequestMetrics
    request_log: RequestLog
    exposition: Exposition
    observers: list[Observer] = field(default_factory=list)
    """Who keeps account of answered requests; filled when it runs."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Predictions, Explanations]]:
        """Everything that answers, for as long as the block lasts."""
        settings = self.settings.sidecar
        jvm.start(heap_mib=settings.java_heap_mib)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        async with AsyncExitStack() as leaving:
            kept = self._accounts(leaving)
            cache = Cache(connect(self.settings))
            leaving.push_async_callback(cache.close)
            vectors = StoredVectors(self.settings, vector_cache(self.settings))
            leaving.push_async_callback(vectors.close)
            await vectors.open()
            scorer = Scorer(
                threads=settings.inference_threads,
                maximum_waiting=settings.maximum_waiting,
                longest_wait_seconds=settings.longest_wait_seconds,
            )
            # A thread of its own: an explanation costs a hundred predictions, and must not stand in their way.
            explaining = Scorer(threads=1, maximum_waiting=MOST_EXPLANATIONS_WAITING)
            for each in (scorer, explaining):
                leaving.push_async_callback(asyncio.to_thread, each.close)
            self.exposition.watched = Watched(scorer, cache, vectors, kept)
            predictions = Predictions(self.repository, scorer, vectors, cache, settings.prediction_cache)
            if kept is not None:
                predictions.shadows.observers.append(kept.shadowed)
            leaving.push_async_callback(asyncio.to_thread, self.repository.stop)
            self.repository.start()
            watching = asyncio.create_task(self.keys.watch())
            leaving.callback(watching.cancel)
            # What the imports left behind lives as long as the process: the collector need not look at it again.
            gc.freeze()
            yield predictions, Explanations(predictions, Explainers(self.source), explaining)

    def _accounts(self, leaving: AsyncExitStack) -> PredictionLog | None:
        """Start what keeps account of requests; it ends last, when nothing is answered any more."""
        kept = PredictionLog(self.settings) if self.settings.sidecar.prediction_log else None
        tracing = Tracing.of(self.settings.sidecar)
        for each in (self.request_log, kept):
            if each is not None:
                each.start()
        for part in (self.request_log, tracing, kept):
            if part is not None:
                leaving.push_async_callback(asyncio.to_thread, part.close)
        self.observers = [each for each in (self.requests, kept, self.request_log, tracing) if each is not None]
        return kept
