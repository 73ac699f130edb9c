"""The running parts of the sidecar: put together when it starts, taken apart in the opposite order when it stops."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from mage_platform.settings import Settings
from serving import jvm
from serving.batch.service import Batches
from serving.cache import Cache, connect
from serving.explainers import Explainers
from serving.explanations import Explanations
from serving.exposition import Watched
from serving.front_door import FrontDoor
from serving.keys import Keyring
from serving.prediction import Predictions
from serving.registry_source import ChampionSource
from serving.repository import Repository
from serving.scorer import Scorer
from serving.vector_cache import vector_cache
from serving.vectors import StoredVectors
from serving.watch import Watch

# Python lets a thread keep the interpreter for 5 ms when another wants it; a batch would wait that long to begin.
SWITCH_INTERVAL_SECONDS = 0.0005
COLLECTOR_THRESHOLDS = (5_000, 20, 100)
"""Of Python's own (700, 10, 10) the collector would walk again and again through predictions that wait to be written:
a third of all processor time when PostgreSQL is gone, and pauses of tens of milliseconds. Requests leave no cycles."""
MOST_EXPLANATIONS_WAITING = 1_000


@dataclass(frozen=True)
class Answering:
    """What answers requests."""

    predictions: Predictions
    explanations: Explanations
    batches: Batches
    scorer: Scorer


@dataclass
class Parts:
    """What `create_app` made before the event loop ran.

    Args:
        settings: Of this process.
        source: Where champions come from.
        repository: The served models.
        keys: Of the callers.
        watch: Looks on.
    """

    settings: Settings
    source: ChampionSource
    repository: Repository
    keys: Keyring
    watch: Watch

    @asynccontextmanager
    async def running(self, door: FrontDoor) -> AsyncIterator[Answering]:
        """Everything that answers, for as long as the block lasts.

        Args:
            door: Where requests come in.
        """
        settings, watch = self.settings.sidecar, self.watch
        jvm.start(heap_mib=settings.java_heap_mib)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(watch.close)  # last, when nothing is answered any more
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
            predictions = Predictions(self.repository, scorer, vectors, cache, settings.prediction_cache)
            batches = Batches(
                self.repository, vectors, cache, settings.prediction_cache,
                maximum_rows=settings.batch_rows, threads=settings.inference_threads, kept=watch.predictions,
            )  # fmt: skip
            leaving.push_async_callback(asyncio.to_thread, batches.close)
            watch.start(door, Watched(scorer, cache, vectors))
            predictions.shadows.observers.append(watch.shadowed)
            leaving.push_async_callback(asyncio.to_thread, self.repository.stop)
            self.repository.start()
            watching = asyncio.create_task(self.keys.watch())
            leaving.callback(watching.cancel)
            # What the imports left behind lives as long as the process: the collector need not look at it again.
            gc.freeze()
            gc.set_threshold(*COLLECTOR_THRESHOLDS)
            explanations = Explanations(predictions, Explainers(self.source), explaining)
            yield Answering(predictions, explanations, batches, scorer)
