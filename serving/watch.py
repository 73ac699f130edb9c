"""Whatever looks on while requests are answered: made, started and ended together."""

from __future__ import annotations

import asyncio

from mage_platform.settings import Settings
from serving.exposition import Exposition, Watched
from serving.front_door import FrontDoor
from serving.metrics import RequestMetrics
from serving.prediction_log import PredictionLog
from serving.repository import Repository
from serving.request_log import RequestLog
from serving.tracing import Tracing


class Watch:
    """Metrics, logs and traces of one sidecar.

    Args:
        settings: Which of them there are.
        repository: The served models.
    """

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._settings = settings.sidecar
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
        self.request_log.start()
        if self.predictions is not None:
            self.predictions.start()
        observers = (self.requests, self.predictions, self.request_log, self._tracing)
        door.observe(*[each for each in observers if each is not None])

    async def close(self) -> None:
        """Write what waits, as far as that succeeds in a few seconds, and end."""
        parts = (self.predictions, self._tracing, self.request_log)
        await asyncio.gather(*[asyncio.to_thread(each.close) for each in parts if each is not None])
