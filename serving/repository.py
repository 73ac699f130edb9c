"""The served models, kept equal to the registry by a watching thread.

All champions are known; as many as there is room for are in memory (`ModelMemory`), the others are loaded when they are
asked for (`ModelLoader`). A new champion is fetched, verified, loaded and warmed while the old one answers; then one
reference is replaced. Requests under way finish on the model they began with.

When PostgreSQL is gone, what is known keeps answering. When it was gone before the start, the champions that were last
seen do, from this disk. After a start, the models that were used most are loaded first; it is ready when all are, or
after `FIRST_LOADING_SECONDS` with those it has, and loads the others in its pauses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import structlog

from mage_platform.contracts import POOLED, Challenger, Champion, Deployment
from mage_platform.errors import PlatformError, Unavailable
from serving.encoding import Fault
from serving.load_faults import Key, LoadFault
from serving.loading import ModelLoader
from serving.model_memory import ModelMemory
from serving.models import ServedModel
from serving.on_demand import ModelNotInMemory, once_in_memory
from serving.problems import NotServed
from serving.registry_source import ChampionReader, ChampionSource

log = structlog.get_logger()
FIRST_LOADING_SECONDS = 1.5
"""How long a start waits for further models once it has one."""
FROM_DISK_AFTER_SECONDS = 2.0
"""How long a start waits for a registry that does not answer before it takes what was last seen."""
COOLING_SECONDS = 20.0
"""How often uses of models grow older."""
MOST_NAMES = 30
"""Regions or use cases that a problem lists."""


@dataclass(frozen=True)
class RegistryState:
    """How the registry was last seen."""

    reachable: bool = False
    read_at: datetime | None = None
    """When it was last read and its champions tried; None before the first time."""
    reason: str = "the registry has not been read yet"
    """Why it is not reachable."""
    kept_at: datetime | None = None
    """When the served champions were last seen, as long as they are known from this disk alone."""


@dataclass
class Repository:
    """The served models.

    Args:
        source: Where champions come from.
        refresh_seconds: Pause between two looks at the source.
        most_models: Most champions in memory.
        most_bytes: Most bytes of all their MOJOs, unpacked.
        load: Makes a model of a champion and its two files.
    """

    source: ChampionSource
    refresh_seconds: float
    most_models: int = 1_000
    most_bytes: int = 128 << 20
    load: Callable[..., ServedModel] = ServedModel.load
    registry: RegistryState = RegistryState()
    memory: ModelMemory = field(init=False)
    _loader: ModelLoader = field(init=False)
    _marker: int | None = None
    _cool_at: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _alarm: threading.Timer | None = None

    def __post_init__(self) -> None:
        self.memory = ModelMemory(self.most_models, self.most_bytes)
        self._loader = ModelLoader(self.source, self.memory, self.load)

    @property
    def models(self) -> Mapping[Key, ServedModel]:
        """The models in memory, by use case and region. A challenger hangs on its champion: `ServedModel.challenge`."""
        return self.memory.models

    @property
    def known(self) -> Mapping[Key, Champion]:
        """All champions by what the registry says of them, in memory or not."""
        return {key: each.champion for key, each in self._loader.known.items()}

    @property
    def challengers(self) -> Mapping[Key, Challenger]:
        """All challengers, in memory or not."""
        return {key: each.challenger for key, each in self._loader.known.items() if each.challenger is not None}

    @property
    def faults(self) -> Mapping[Key, LoadFault]:
        """Champions that could not be loaded."""
        return self._loader.faults.by_key

    @property
    def challenger_faults(self) -> Mapping[Key, LoadFault]:
        """Challengers that could not be loaded; their champions answer alone."""
        return self._loader.challenger_faults.by_key

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._loader.start()
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)
        self._thread.start()
        self._alarm = threading.Timer(FROM_DISK_AFTER_SECONDS, self._start_from_disk)
        self._alarm.daemon = True
        self._alarm.start()

    def stop(self) -> None:
        """End the watching, and keep on the disk which models are used most.

        Returns soon even when PostgreSQL hangs.
        """
        self._stop.set()
        self._loader.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        if self.registry.read_at is not None:
            self._keep(self.registry.read_at)

    def model(self, use_case: str, region: str, entity_id: UUID | None = None) -> ServedModel:
        """The model that answers for a region, which may be the pooled one, or a canary.

        Args:
            use_case: Which use case.
            region: Which region.
            entity_id: Whose prediction; left out, the champion answers also where there is a canary.

        Raises:
            NotServed: There is none; the message lists what is served.
            ModelNotInMemory: It is being loaded; see `in_memory`.
            Unavailable: It cannot be loaded, or the registry has not been read yet, so that nothing can be said.
        """
        model = self.memory.models.get((use_case, region)) or self._other(use_case, region)
        model.uses += 1
        challenge = model.challenge
        if challenge is None or entity_id is None or not challenge.is_canary or not challenge.takes(entity_id):
            return model
        return challenge.model

    async def in_memory(self, use_case: str, region: str) -> ServedModel:
        """The champion of a region, waited for when it has to be loaded first. Errors are those of `model`."""
        try:
            return self.model(use_case, region)
        except ModelNotInMemory as absent:
            error = absent

        async def ask() -> ServedModel:
            return self.model(use_case, region)

        return await once_in_memory(ask, error)

    def champion(self, use_case: str, region: str) -> Champion:
        """What the registry says of the champion that answers for a region, in memory or not.

        Raises:
            NotServed: There is none.
            Unavailable: The registry has not been read yet, or a region of its own has a fault and nothing else.
        """
        key = self._key(use_case, region)
        if key is None:
            raise self._not_served(use_case, region)
        return self._loader.known[key].champion

    def served(self, use_case: str, region: str) -> ServedModel | None:
        """The model in memory that answers for a region: its own, else the pooled model of the use case, else none.

        A region whose own champion could not be loaded is not answered by another model.
        """
        key = self._key(use_case, region)
        return None if key is None else self.memory.models.get(key)

    def _key(self, use_case: str, region: str) -> Key | None:
        known = self._loader.known
        return next((key for key in ((use_case, region), (use_case, POOLED)) if key in known), None)

    def _other(self, use_case: str, region: str) -> ServedModel:
        """The model of a region that has none of its own in memory."""
        key = self._key(use_case, region)
        if key is None:
            raise self._not_served(use_case, region)
        if (model := self.memory.models.get(key)) is not None:
            return model
        version = self._loader.known[key].champion.model.version
        if (fault := self._loader.faults.of(key, version)) is not None:
            raise Unavailable(
                f"version {version} of use case {key[0]!r}, region {key[1]!r} could not be loaded: {fault.reason}"
            )
        raise ModelNotInMemory(
            f"version {version} of use case {key[0]!r}, region {key[1]!r} is being loaded: try again in a second",
            self._loader.demand(key),
        )

    def _not_served(self, use_case: str, region: str) -> PlatformError:
        if self.registry.read_at is None and self.registry.kept_at is None:
            return Unavailable(f"no model is loaded yet: {self.registry.reason}. Try again in a moment")
        regions = sorted(known for name, known in self._loader.known if name == use_case)
        if regions:
            served = _listed(regions)
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
                        self._pause(reader)
            except Unavailable as error:
                self._unreachable(error.message)
            except Exception as error:  # the edge of the thread: whatever it is, the watching goes on
                log.exception("watching the registry failed")
                self._unreachable(f"{type(error).__name__}: {error}")
            self._start_from_disk()
            self._pause(None)

    def _pause(self, reader: ChampionReader | None) -> None:
        """Until the next look; what is still to be loaded is, by and by."""
        until = time.monotonic() + self.refresh_seconds
        self._loader.preload(reader, until, self._stop, pace=1.0)
        if until >= self._cool_at:
            self._cool_at = until + COOLING_SECONDS
            self.memory.cool()
        self._stop.wait(max(0.0, until - time.monotonic()))

    def _unreachable(self, reason: str) -> None:
        if self.registry.reachable or self.registry.reason != reason:
            log.warning("registry not reachable", reason=reason, models=len(self.models))
        self.registry = replace(self.registry, reachable=False, reason=reason)

    def _start_from_disk(self) -> None:
        """Serve the champions last seen, when the registry does not answer at the start."""
        with self._starting:
            state = self.registry
            if state.reachable or state.read_at is not None or state.kept_at is not None or self._stop.is_set():
                return
            kept = self.source.last_seen()
            if kept is None:
                return
            self._loader.adopt(kept.deployments)
            self._loader.preload(None, time.monotonic() + FIRST_LOADING_SECONDS, self._stop, pace=0.0)
            self.registry = replace(self.registry, kept_at=kept.seen_at)
            log.warning("champions last seen served", seen_at=kept.seen_at.isoformat(), known=len(kept.deployments))

    def refresh(self, reader: ChampionReader) -> None:
        """Bring the served models up to date with the source, as far as that succeeds."""
        marker = reader.marker()
        first = self.registry.read_at is None
        if not self.registry.reachable:
            reason = "the champions are being loaded" if first else ""
            self.registry = replace(self.registry, reachable=True, reason=reason)
            log.info("registry reached", marker=marker)
        if marker != self._marker or self._loader.faults.due() or self._loader.challenger_faults.due():
            self._follow(reader)
            self._marker = marker
        if first:
            self._loader.preload(reader, time.monotonic() + FIRST_LOADING_SECONDS, self._stop, pace=0.0)
        self.registry = RegistryState(reachable=True, read_at=datetime.now(UTC), reason="")

    def _follow(self, reader: ChampionReader) -> None:
        found = reader.deployments(self._loader.versions())
        wanted = {(each.champion.model.use_case, each.champion.model.region): each for each in found}
        self._loader.forget_all_but(wanted)
        present = [each for key, each in wanted.items() if key in self._loader.known]
        self._loader.adopt(self._most_used_first(found))
        for each in present:
            self._loader.follow(reader, each)
        new = [each.champion.model for each in found]
        new += [each.challenger.model for each in found if each.challenger is not None]
        reader.forget_others([*self._loader.versions(), *new])
        self._keep(datetime.now(UTC))

    def _most_used_first(self, found: Iterable[Deployment]) -> list[Deployment]:
        """In the order in which they were kept on this disk at the last stop, at the first look; then as they come."""
        if self._marker is not None or self._loader.known or (kept := self.source.last_seen()) is None:
            return list(found)
        places = {
            (each.champion.model.use_case, each.champion.model.region): place
            for place, each in enumerate(kept.deployments)
        }
        last = len(places)
        return sorted(
            found, key=lambda each: places.get((each.champion.model.use_case, each.champion.model.region), last)
        )

    def _keep(self, seen_at: datetime) -> None:
        known, used = self._loader.known, self.memory.by_use()
        first = [known[key] for key in used if key in known]
        ahead = set(used)
        self.source.keep(seen_at, [*first, *(each for key, each in known.items() if key not in ahead)])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(repr(name) for name in names[:MOST_NAMES]) + more
