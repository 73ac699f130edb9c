"""What the sidecar counts, as Prometheus and OpenMetrics read it: the only door to prometheus_client.

Everything is read where it is counted anyway; nothing is kept twice and nothing is locked. A scrape is put together in
a thread of its own, so that the event loop goes on answering.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from mage_platform import __version__
from serving import jvm
from serving.cache import Cache
from serving.histogram import Histogram
from serving.metrics import MOST_MODELS, STAGES, RequestMetrics
from serving.prediction_log import PredictionLog
from serving.repository import Repository
from serving.request_log import RequestLog
from serving.scorer import Scorer
from serving.vectors import StoredVectors
from serving.worker_metrics import Family, WorkerMetrics

METRICS = "/metrics"
HOP_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MODEL = ("use_case", "region", "version", "variant")


@dataclass
class Watched:
    """The running parts of the sidecar that count something."""

    scorer: Scorer
    cache: Cache
    vectors: StoredVectors


class Exposition:
    """Collects everything for a scrape.

    Args:
        requests: What is counted of requests.
        repository: The served models.
        request_log: Lines written and left out.
        predictions: Rows written and dropped, where predictions are kept.
    """

    def __init__(
        self,
        requests: RequestMetrics,
        repository: Repository,
        request_log: RequestLog,
        predictions: PredictionLog | None,
    ) -> None:
        self._requests = requests
        self._repository = repository
        self._request_log = request_log
        self._predictions = predictions
        self.watched: Watched | None = None
        """None until the sidecar has started."""
        self.workers: WorkerMetrics | None = None
        """Where several workers answer: what all of them counted."""
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (PlatformCollector, ProcessCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The scrape's body and its media type.

        Args:
            accept: What the scraper would have: OpenMetrics, else the older text format.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry if self.workers is None else _Together(self.workers)), media_type

    def families(self) -> list[Family]:
        """This process's families, without the library's classes."""
        return [
            (each.name, each.type, each.documentation, [sample[:3] for sample in each.samples])
            for each in self._registry.collect()
        ]

    def collect(self) -> Iterator[Metric]:
        """Every family, as it is now."""
        yield InfoMetricFamily("sidecar_build", "What runs here.", {"version": __version__})
        yield from self._of_requests()
        yield from self._of_models()
        yield from self._of_logs()
        if self.watched is not None:
            yield from _of_scoring(self.watched.scorer)
            yield from _of_caches(self.watched.cache, self.watched.vectors)

    def _of_requests(self) -> Iterator[Metric]:
        counted = self._requests
        yield _counts(
            "sidecar_requests",
            "Answered requests; problem is empty where there was none.",
            ("route", "status", "problem"),
            {(route, str(status), problem): n for (route, status, problem), n in list(counted.requests.items())},
        )
        total = HistogramMetricFamily(
            "sidecar_request_seconds", "From the first byte of a request to its handed-over answer.", labels=("route",)
        )
        stages = HistogramMetricFamily(
            "sidecar_stage_seconds",
            "Stages of requests: read and parse, vector and encoding, cache and score, writing the answer.",
            labels=("route", "stage"),
        )
        for route, times in list(counted.times.items()):
            _add(total, (route,), times.total)
            for stage in STAGES:
                if any((histogram := getattr(times, stage)).counts):
                    _add(stages, (route, stage), histogram)
        yield from (total, stages)

    def _of_models(self) -> Iterator[Metric]:
        tallies = list(self._requests.models.items())
        for name, field, text in (
            ("sidecar_predictions", "answered", "Rows answered by a model version."),
            ("sidecar_cached_predictions", "cached", "Rows among them whose score came from the cache."),
            ("sidecar_failed_predictions", "failed", "Rows that a model version was asked for and could not answer."),
            ("sidecar_prediction_seconds", "seconds", "Time of the requests a model version answered, together."),
        ):
            yield _counts(name, text, MODEL, {key: getattr(tally, field) for key, tally in tallies})
        models, registry = dict(self._repository.models), self._repository.registry
        yield GaugeMetricFamily("sidecar_models", "Loaded model versions.", len(models))
        yield GaugeMetricFamily(
            "sidecar_models_not_loaded", "Champions that do not answer; /health/ready says why.",
            len(self._repository.faults),
        )  # fmt: skip
        loaded = GaugeMetricFamily(
            "sidecar_model_loaded",
            f"1 for a loaded model version; of more than {MOST_MODELS} the rest are left out.",
            labels=("use_case", "region", "version", "algorithm"),
        )
        for key in sorted(models)[:MOST_MODELS]:
            loaded.add_metric((*models[key].name, models[key].version.algorithm), 1)
        yield loaded
        shown = [models[key] for key in sorted(models)[:MOST_MODELS]]
        yield _counts(
            "sidecar_model_cache",
            "Single predictions by what the cache was for them, since the version was loaded.",
            ("use_case", "region", "version", "outcome"),
            {(*model.name, outcome): n for model in shown for outcome, n in model.cache_use.outcomes().items()},
        )
        yield GaugeMetricFamily("sidecar_registry_reachable", "1 while the registry answers.", registry.reachable)
        read_at = registry.read_at.timestamp() if registry.read_at else 0
        yield GaugeMetricFamily(
            "sidecar_registry_read_timestamp_seconds", "When the registry was last read; 0 is never.", read_at
        )

    def _of_logs(self) -> Iterator[Metric]:
        lines = self._request_log
        yield _counts(
            "sidecar_log_lines", "Lines of the request log, by what became of them.", ("outcome",),
            {("written",): lines.written, ("left_out",): lines.left_out, ("dropped",): lines.dropped},
        )  # fmt: skip
        kept = self._predictions
        if kept is not None:
            outcomes = {("written",): kept.written, ("dropped",): kept.dropped, ("refused",): kept.refused}
            yield _counts(
                "sidecar_logged_predictions", "Rows of the prediction log, by what became of them.", ("outcome",),
                outcomes,
            )  # fmt: skip
            yield GaugeMetricFamily("sidecar_waiting_predictions", "Rows that wait for the database.", kept.waiting)


class _Together:
    """The families of all workers, in the library's classes."""

    def __init__(self, workers: WorkerMetrics) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        for name, kind, text, samples in self._workers.families():
            metric = Metric(name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _of_scoring(scorer: Scorer) -> Iterator[Metric]:
    hops = Histogram(HOP_ROWS)
    for rows, times in list(scorer.hops.items()):
        hops.counts[bisect_left(HOP_ROWS, rows)] += times
        hops.sum += rows * times
    family = HistogramMetricFamily("sidecar_hop_rows", "Rows that went to the executor together.")
    _add(family, (), hops)
    yield family
    yield GaugeMetricFamily(
        "sidecar_waiting_scores", "Rows that wait for a score, or are being scored.", scorer.waiting
    )
    used, most = jvm.heap()
    yield GaugeMetricFamily("sidecar_java_heap_used_bytes", "Heap of the scoring JVM in use.", used)
    yield GaugeMetricFamily("sidecar_java_heap_maximum_bytes", "Greatest heap of the scoring JVM.", most)


def _of_caches(predictions: Cache, vectors: StoredVectors) -> Iterator[Metric]:
    of_vectors = vectors.cache
    counts, found = predictions.counts, vectors.counts
    below = of_vectors.counts
    yield _counts(
        "sidecar_cache_keys", "What became of the keys read from the cache.", ("cache", "outcome"),
        {
            ("predictions", "hit"): counts.hits,
            ("predictions", "miss"): counts.misses,
            ("predictions", "late"): counts.late,
            ("predictions", "unanswered"): counts.unanswered,
            ("vectors", "hit"): found.hits,
            ("vectors", "miss"): found.misses,
            ("vectors", "stale"): found.stale,
            ("vectors", "late"): below.late,
            ("vectors", "unanswered"): below.unanswered,
        },
    )  # fmt: skip
    both = (("predictions", predictions), ("vectors", of_vectors))
    yield _counts(
        "sidecar_cache_errors", "Failed round trips, refused writes, and values that are none of ours.", ("cache",),
        {(name,): cache.counts.errors for name, cache in both},
    )  # fmt: skip
    yield _counts(
        "sidecar_cache_dropped_writes", "Writes given up because too many waited, or Redis takes none.", ("cache",),
        {(name,): cache.counts.dropped for name, cache in both},
    )  # fmt: skip
    state = GaugeMetricFamily("sidecar_cache_open", "1 while Redis is asked, 0 while left alone.", labels=("cache",))
    reads = HistogramMetricFamily("sidecar_cache_read_seconds", "Round trips that read.", labels=("cache",))
    for name, cache in both:
        state.add_metric((name,), cache.open)
        _add(reads, (name,), cache.reads)
    yield from (state, reads)


def _counts(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    buckets, so_far = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), list(histogram.counts), strict=True):
        so_far += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), so_far))
    family.add_metric(labels, buckets, histogram.sum)


def add_metrics(app: FastAPI, exposition: Exposition) -> None:
    """The route that is scraped."""

    @app.get(METRICS, summary="Metrics for Prometheus", tags=["health"], response_class=Response)
    async def metrics(request: Request) -> Response:
        body, media_type = await asyncio.to_thread(exposition.render, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})
