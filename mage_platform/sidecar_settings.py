"""The prediction API: the settings `PLATFORM_SIDECAR__*`."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from mage_platform.contracts.models import CachePolicy
from mage_platform.door_settings import DoorSettings
from mage_platform.watch_settings import WatchSettings


class SidecarSettings(DoorSettings, WatchSettings):
    """The FastAPI sidecar that answers predictions. What guards its door is in `door_settings`, what it tells of itself
    in `watch_settings`."""

    host: str = "127.0.0.1"
    """Address it binds to and is reached at."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer on the port, each with a JVM and models of its own. One that dies is started again."""
    inference_threads: Annotated[int, Field(ge=1, le=64)] = max(1, os.cpu_count() or 1)
    """Threads of the executor that scores."""
    refresh_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """How often the registry is asked for new champions."""
    java_heap_mib: Annotated[int, Field(ge=64)] = 256
    """Heap of the scoring JVM inside the process, in MiB."""
    models_in_memory: Annotated[int, Field(ge=1)] = 1_000
    """Most models kept in memory; the others are loaded when they are asked for, in the place of the least used."""
    models_in_memory_mib: Annotated[int, Field(ge=1)] = 128
    """Most MiB of the models in memory, unpacked. Half of `java_heap_mib` leaves room to work."""
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """Most rows of one batch."""
    batch_mib: Annotated[int, Field(ge=1, le=1_024)] = 128
    """Longest body of a batch in MiB; all bodies of batches under way together may have twice as many."""
    prediction_cache: CachePolicy = "adaptive"
    """Whether the look-aside cache takes part: for every request, while it is measured cheaper than scoring, never.
    A use case may say otherwise for its models (`serving.cache`)."""
    request_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long one prediction may take once its body is there, up to a quarter more; then the answer is 503."""

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://{self.host}:{self.port}"
