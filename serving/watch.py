"""Whatever looks on while requests are answered: made, started and ended together."""

from __future__ import annotations

import asyncio

from mage_platform.settings import Settings
from serving.calls import Call
from serving.exposition import Exposition, Watched
from serving.front_door import FrontDoor
from serving.jvm import Score
from serving.metrics import RequestMetrics
from serving.models import ServedModel
from serving.prediction_log import PredictionLog
from serving.repository import Repository
from serving.request_log import RequestLog
from serving.tracing import Tracing
from serving.worker_metrics import WorkerMetrics


class Watch:
    """Metrics, logs and traces of one sidecar.

    Args:
        settings: Which of them there are.
        repository: The served models.
        worker: Number of this process where several answer on the port, whose counts are shown together.
    """

    def __init__(self, settings: Settings, repository: Repository, worker: int | None = None) -> None:
        self._settings = settings.sidecar
        self._folder, self._worker = settings.state_folder / "sidecar_metrics", worker
        self.requests = RequestMetrics()
        self.request_log = RequestLog(settings.sidecar)
        self.predictions = PredictionLog(settings) if settings.sidecar.prediction_log else None
        self.exposition = Exposition(self.requests, repository, self.request_log, self.predictions)
        self._tracing: Tracing | None = None

    def start(self, door: FrontDoor, watched: Watched) -> None:
        """Begin to look on.

        Args:
            door: Where requests come in.
            watched: What counts for itself.
        """
        self._tracing = Tracing.of(self._settings)
        self.exposition.watched = watched
        if self._worker is not None:
            self.exposition.workers = WorkerMetrics(self._folder, self._worker, self.exposition.families)
            self.exposition.workers.start()
        self.request_log.start()
        if self.predictions is not None:
            self.predictions.start()
        observers = (self.requests, self.predictions, self.request_log, self._tracing)
        door.observe(*[each for each in observers if each is not None])

    def shadowed(self, call: Call, model: ServedModel, score: Score) -> None:
        """Take note of what a shadow would have answered."""
        self.requests.shadowed(call, model, score)
        if self.predictions is not None:
            self.predictions.shadowed(call, model, score)

    async def close(self) -> None:
        """Write what waits, as far as that succeeds in a few seconds, and end."""
        parts = (self.predictions, self._tracing, self.request_log, self.exposition.workers)
        await asyncio.gather(*[asyncio.to_thread(each.close) for each in parts if each is not None])
