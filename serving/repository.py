"""The models in memory, kept equal to the registry's champions by a watching thread.

A new champion is fetched, verified, loaded and warmed while the old one answers; then one reference is replaced.
Requests under way finish on the model they began with. When a step fails the old model stays, the fault is kept for
`/health/ready`, and it is tried again. A version whose signature or bytes are not right is refused the same way, and
one line of the log says so for whoever audits it. When PostgreSQL is gone, what is loaded keeps answering.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from mage_platform.contracts import POOLED, Champion, ModelVersion
from mage_platform.errors import ArtifactCorrupt, PlatformError, SignatureInvalid, Unavailable
from serving.encoding import Fault
from serving.models import ServedModel
from serving.problems import NotServed
from serving.registry_source import ChampionReader, ChampionSource

log = structlog.get_logger()
RETRY_SECONDS = 5.0
"""Pause before a champion that could not be loaded is tried again; doubled each time."""
LONGEST_RETRY_SECONDS = 60.0

Key = tuple[str, str]
"""Use case and region."""


@dataclass(frozen=True)
class LoadFault:
    """Why a champion is not the one that answers."""

    use_case: str
    region: str
    version: int
    reason: str
    since: datetime
    retry_at: float
    """Monotonic seconds."""
    pause_seconds: float


@dataclass(frozen=True)
class RegistryState:
    """How the registry was last seen."""

    reachable: bool = False
    read_at: datetime | None = None
    """When it was last read and its champions tried; None before the first time."""
    reason: str = "the registry has not been read yet"
    """Why it is not reachable."""


@dataclass
class Repository:
    """The served models.

    Args:
        source: Where champions come from.
        refresh_seconds: Pause between two looks at the source.
        load: Makes a model of a champion and its two files.
    """

    source: ChampionSource
    refresh_seconds: float
    load: Callable[..., ServedModel] = ServedModel.load
    models: Mapping[Key, ServedModel] = field(default_factory=dict)
    """Replaced as a whole, never changed: a reader needs no lock."""
    registry: RegistryState = RegistryState()
    faults: Mapping[Key, LoadFault] = field(default_factory=dict)
    _marker: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching. Returns soon even when PostgreSQL hangs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def model(self, use_case: str, region: str) -> ServedModel:
        """The model that answers for a region, which may be the pooled one.

        Raises:
            NotServed: There is none; the message lists what is served.
            Unavailable: The registry has not been read yet, so nothing can be said.
        """
        model = self.models.get((use_case, region)) or self.served(use_case, region)
        if model is None:
            raise self._not_served(use_case, region)
        return model

    def served(self, use_case: str, region: str) -> ServedModel | None:
        """The model that answers for a region: its own, else the pooled model of the use case, else none.

        A region whose own champion could not be loaded is not answered by another model.
        """
        models = self.models
        own = models.get((use_case, region))
        if own is not None or (use_case, region) in self.faults:
            return own
        return models.get((use_case, POOLED))

    def _not_served(self, use_case: str, region: str) -> PlatformError:
        if (fault := self.faults.get((use_case, region))) is not None:
            return Unavailable(
                f"version {fault.version} of use case {use_case!r}, region {region!r} could not be loaded: "
                f"{fault.reason}"
            )
        if self.registry.read_at is None:
            return Unavailable(f"no model is loaded yet: {self.registry.reason}. Try again in a moment")
        regions = sorted(served for name, served in self.models if name == use_case)
        if regions:
            served = ", ".join(repr(name) for name in regions)
            return NotServed(
                f"use case {use_case!r} has no model for region {region!r}; served regions: {served}",
                Fault("region", f"has no model; served: {served}", region),
            )
        # Others are not named: the caller's key may not be for them.
        return NotServed(
            f"use case {use_case!r} is not served; GET /v1/models lists what is",
            Fault("use_case", "is not served", use_case),
        )

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                with self.source.session() as reader:
                    while not self._stop.is_set():
                        self.refresh(reader)
                        self._stop.wait(self.refresh_seconds)
            except Unavailable as error:
                self._unreachable(error.message)
            except Exception as error:  # the edge of the thread: whatever it is, the watching goes on
                log.exception("watching the registry failed")
                self._unreachable(f"{type(error).__name__}: {error}")
            self._stop.wait(self.refresh_seconds)

    def _unreachable(self, reason: str) -> None:
        if self.registry.reachable or self.registry.reason != reason:
            log.warning("registry not reachable", reason=reason, models=len(self.models))
        self.registry = RegistryState(reachable=False, read_at=self.registry.read_at, reason=reason)

    def refresh(self, reader: ChampionReader) -> None:
        """Bring the served models up to date with the source, as far as that succeeds."""
        marker = reader.marker()
        if not self.registry.reachable:
            first = self.registry.read_at is None
            reason = "the champions are being loaded" if first else ""
            self.registry = RegistryState(reachable=True, read_at=self.registry.read_at, reason=reason)
            log.info("registry reached", marker=marker)
        now = time.monotonic()
        if marker != self._marker or any(fault.retry_at <= now for fault in self.faults.values()):
            wanted = {(c.model.use_case, c.model.region): c for c in reader.champions()}
            for key in [key for key in self.models if key not in wanted]:
                self.models = {other: model for other, model in self.models.items() if other != key}
                log.info("model no longer served", use_case=key[0], region=key[1])
            self.faults = {key: fault for key, fault in self.faults.items() if key in wanted}
            for key, champion in wanted.items():
                self._bring(reader, key, champion)
            served = [model.version for model in self.models.values()]
            reader.forget_others([*served, *(champion.model for champion in wanted.values())])
            self._marker = marker
        self.registry = RegistryState(reachable=True, read_at=datetime.now(UTC), reason="")

    def _bring(self, reader: ChampionReader, key: Key, champion: Champion) -> None:
        version = champion.model.version
        served, fault = self.models.get(key), self.faults.get(key)
        if served is not None and served.version == champion.model and served.since == champion.since:
            self.faults = {other: kept for other, kept in self.faults.items() if other != key}
            return
        if fault is not None and fault.version == version and fault.retry_at > time.monotonic():
            return
        started = time.monotonic()
        try:
            model = self.load(champion, *reader.files(champion))
            rows = model.warm_up(time.monotonic)
        except Unavailable:
            raise
        except Exception as error:  # the edge: a model that cannot be loaded must not stop the others
            self._note_fault(key, champion.model, error)
            return
        self.models = {**self.models, key: model}
        self.faults = {other: kept for other, kept in self.faults.items() if other != key}
        log.info(
            "model served",
            use_case=key[0],
            region=key[1],
            version=version,
            replaces=served.version.version if served else None,
            warm_up_rows=rows,
            seconds=round(time.monotonic() - started, 3),
        )

    def _note_fault(self, key: Key, model: ModelVersion, error: Exception) -> None:
        before, version = self.faults.get(key), model.version
        again = before is not None and before.version == version
        pause = min(before.pause_seconds * 2, LONGEST_RETRY_SECONDS) if before and again else RETRY_SECONDS
        fault = LoadFault(
            use_case=key[0],
            region=key[1],
            version=version,
            reason=str(error) or type(error).__name__,
            since=before.since if before and again else datetime.now(UTC),
            retry_at=time.monotonic() + pause,
            pause_seconds=pause,
        )
        self.faults = {**self.faults, key: fault}
        if before is not None and again and before.reason == fault.reason:
            return  # said once; /health/ready tells it as long as it lasts
        served = self.models.get(key)
        refused = isinstance(error, (ArtifactCorrupt, SignatureInvalid))
        log.error(
            "model refused" if refused else "model not loaded",
            audit=refused,
            use_case=key[0],
            region=key[1],
            version=version,
            mojo_sha256=model.mojo_sha256,
            signed_by=model.signed_by,
            reason=fault.reason,
            keeps_serving=served.version.version if served else None,
        )
