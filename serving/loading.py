"""From a deployment in the registry to a model in memory: fetched, verified, loaded, warmed, only then put in place.

A model comes in when its version was promoted, when there is room after the start, or when a request asks for it. When
a step fails, what was there stays, the fault is kept for `/health/ready`, and it is tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import structlog

from mage_platform.contracts import POOLED, Challenger, Champion, Deployment, ModelVersion
from mage_platform.errors import DatabaseUnavailable, Unavailable
from serving.load_faults import Key, LoadFaults
from serving.model_memory import ModelMemory
from serving.models import ServedModel
from serving.registry_source import ChampionReader, ChampionSource
from serving.variants import Challenge

log = structlog.get_logger()
THREADS = 2
"""Models that are loaded side by side for requests that wait for them."""


class ModelLoader:
    """What is known of each region's deployment, and how its model comes into memory.

    Args:
        source: Where files come from.
        memory: Where models go to.
        load: Makes a model of a champion and its two files.
    """

    def __init__(self, source: ChampionSource, memory: ModelMemory, load: Callable[..., ServedModel]) -> None:
        self.known: Mapping[Key, Deployment] = {}
        """Who answers for each region, in memory or not. Replaced as a whole, never changed."""
        self.faults = LoadFaults("champion")
        self.challenger_faults = LoadFaults("challenger")
        self._source, self._memory, self._load = source, memory, load
        self._to_preload: deque[Key] = deque()
        self._changing = threading.Lock()
        self._under_way: dict[Key, Future[None]] = {}
        self._demands: SimpleQueue[tuple[Key, Future[None]] | None] = SimpleQueue()

    def start(self) -> None:
        """Begin to load on demand. The threads hold up no end of the process, even when PostgreSQL hangs."""
        for number in range(THREADS):
            threading.Thread(target=self._serve_demands, name=f"loading-{number}", daemon=True).start()

    def stop(self) -> None:
        """Load nothing more on demand."""
        for _ in range(THREADS):
            self._demands.put(None)

    def versions(self) -> list[ModelVersion]:
        """Every known version, of champions and challengers."""
        known = self.known.values()
        return [each.champion.model for each in known] + [each.challenger.model for each in known if each.challenger]

    def adopt(self, deployments: Sequence[Deployment]) -> None:
        """Know regions that were not known, to be loaded when there is room or when they are asked for.

        Args:
            deployments: Those to be loaded first come first; but the pooled models, which answer for many regions, go
                before all others.
        """
        with self._changing:
            new = {key: each for each in deployments if (key := _key(each)) not in self.known}
            self.known = {**self.known, **new}
        self._to_preload.extend(sorted(new, key=lambda key: key[1] != POOLED))

    def forget_all_but(self, wanted: Mapping[Key, Deployment]) -> None:
        """Serve no region any more but these."""
        gone = [key for key in self.known if key not in wanted]
        if gone:
            with self._changing:
                self.known = {key: each for key, each in self.known.items() if key in wanted}
        for use_case, region in gone:
            self._memory.drop((use_case, region))
            log.info("model no longer served", use_case=use_case, region=region)
        self.faults.keep(wanted.keys())
        self.challenger_faults.keep(wanted.keys())

    def follow(self, reader: ChampionReader, wanted: Deployment) -> None:
        """Bring one known region to what the registry says of it, as far as that succeeds.

        Raises:
            Unavailable: PostgreSQL went away.
        """
        key, present = _key(wanted), self.known[_key(wanted)]
        version = wanted.champion.model.version
        if present.champion.model != wanted.champion.model:
            if not self.faults.waits(key, version):
                self._swap(reader, key, wanted)
            return
        if present != wanted:
            with self._changing:
                self.known = {**self.known, key: wanted}
            self._update(reader, key, wanted)
        elif self._challenger_is_due(key, wanted.challenger):
            self._update(reader, key, wanted)
        if self.faults.of(key, version) is None:
            self.faults.clear(key)  # of a version that is wanted no more
        elif not self.faults.waits(key, version):
            self._bring(key, wanted, reader, heat=0.0)

    def preload(self, reader: ChampionReader | None, until: float, stop: threading.Event, *, pace: float) -> None:
        """Load what was adopted, as long as there is room and time.

        Args:
            reader: An open session; without one only what lies on this disk is loaded.
            until: Monotonic seconds; the first one is loaded in any case.
            stop: Ends it early.
            pace: Pause after each, as a multiple of the time it took, which is left to the requests.

        Raises:
            Unavailable: PostgreSQL went away.
        """
        while self._to_preload and not stop.is_set():
            if not self._memory.has_room():
                self._to_preload.clear()
                return
            key = self._to_preload.popleft()
            deployment, began = self.known.get(key), time.monotonic()
            if deployment is not None and key not in self._memory.models:
                try:
                    self._bring(key, deployment, reader, heat=0.0, fetch=False)
                except Unavailable:
                    if reader is not None:
                        self._to_preload.appendleft(key)
                        raise
            now = time.monotonic()
            if now >= until:
                return
            stop.wait((now - began) * pace)

    def demand(self, key: Key) -> Future[None]:
        """Load a known model that a request waits for. Whoever asks meanwhile waits for the same loading.

        Returns:
            Done when it is in memory or has a fault; with `Unavailable` when its files could not be had.
        """
        with self._changing:
            future = self._under_way.get(key)
            if future is None:
                future = self._under_way[key] = Future()
                self._demands.put((key, future))
            return future

    def _serve_demands(self) -> None:
        while (demand := self._demands.get()) is not None:
            key, future = demand
            error: Exception | None = None
            try:
                if (deployment := self.known.get(key)) is not None and key not in self._memory.models:
                    self._bring(key, deployment, None, heat=1.0)
            except Exception as raised:  # the edge of the thread: whoever waits is told
                error = raised
            with self._changing:
                del self._under_way[key]
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _bring(
        self, key: Key, deployment: Deployment, reader: ChampionReader | None, *, heat: float, fetch: bool = True
    ) -> None:
        """Load a known model; when what is known of it changes meanwhile, anew."""
        while True:
            model = self._made(deployment, reader, fetch=fetch)
            with self._changing:
                present = self.known.get(key)
                if model is None or present is None:
                    return
                if present is deployment:
                    self._memory.put(key, model, heat=heat)
                    self.faults.clear(key)
                    return
            deployment = present

    def _swap(self, reader: ChampionReader, key: Key, wanted: Deployment) -> None:
        """Put a new version in the place of another, once it is loaded and warm. Also where the other one is not in
        memory: what fails must be known while that can still be loaded."""
        model = self._made(wanted, reader)
        if model is None:
            return
        with self._changing:
            self.known = {**self.known, key: wanted}
            if key in self._memory.models or self._memory.has_room():
                self._memory.put(key, model, heat=0.0)
            self.faults.clear(key)

    def _update(self, reader: ChampionReader, key: Key, wanted: Deployment) -> None:
        """Bring the challenger of a model in memory, and since when it is champion, up to date."""
        model = self._memory.models.get(key)
        if model is not None:
            model.since = wanted.champion.since
            model.challenge = self._challenge(wanted, model.challenge, reader, fetch=True)
        elif wanted.challenger is None:
            self.challenger_faults.clear(key)

    def _made(self, deployment: Deployment, reader: ChampionReader | None, *, fetch: bool = True) -> ServedModel | None:
        """The champion, its challenger beside it; None when it has a fault now."""
        champion, key = deployment.champion, _key(deployment)
        served, present = self._memory.models.get(key), self.known.get(key)
        started = time.monotonic()
        try:
            model, rows = self._model(champion, "champion", reader, fetch=fetch)
        except Unavailable:
            raise
        except Exception as error:  # the edge: a model that cannot be loaded must not stop the others
            before = present.champion.model if present else None
            keeps = before.version if before is not None and before != champion.model else None
            self.faults.note(champion.model, error, keeps_serving=keeps)
            return None
        model.challenge = self._challenge(deployment, served.challenge if served else None, reader, fetch=fetch)
        log.info(
            "model served",
            use_case=key[0],
            region=key[1],
            version=champion.model.version,
            replaces=served.version.version if served else None,
            warm_up_rows=rows,
            seconds=round(time.monotonic() - started, 3),
        )
        return model

    def _challenge(
        self, deployment: Deployment, present: Challenge | None, reader: ChampionReader | None, *, fetch: bool
    ) -> Challenge | None:
        """The challenger as it should be, loaded where it is not; None when there is none, or it has a fault.

        That a challenger is missing never keeps its champion from answering.
        """
        challenger, key = deployment.challenger, _key(deployment)
        if challenger is None:
            self.challenger_faults.clear(key)
            return None
        if present is not None and (present.model.version, present.mode) == (challenger.model, challenger.mode):
            same = present.share == challenger.share
            return present if same else Challenge(present.model, challenger.mode, challenger.share)
        if self.challenger_faults.waits(key, challenger.model.version):
            return None
        place = Champion(model=challenger.model, since=challenger.since)
        try:
            model, rows = self._model(place, challenger.mode, reader, fetch=fetch)
        except Exception as error:  # the edge, as above
            self.challenger_faults.note(challenger.model, error, keeps_serving=deployment.champion.model.version)
            return None
        self.challenger_faults.clear(key)
        version, share = challenger.model.version, challenger.share
        log.info(
            "challenger loaded", use_case=key[0], region=key[1], version=version, mode=challenger.mode, share=share,
            warm_up_rows=rows,
        )  # fmt: skip
        return Challenge(model, challenger.mode, challenger.share)

    def _challenger_is_due(self, key: Key, challenger: Challenger | None) -> bool:
        if challenger is None:
            return False
        fault = self.challenger_faults.of(key, challenger.model.version)
        return fault is not None and fault.retry_at <= time.monotonic()

    def _model(
        self, champion: Champion, variant: str, reader: ChampionReader | None, *, fetch: bool
    ) -> tuple[ServedModel, int]:
        files = reader.files(champion.model) if reader else self._source.kept_files(champion.model)
        if files is None:
            if not fetch:
                raise DatabaseUnavailable("its files do not lie on this disk, and the registry is not reachable")
            with self._source.session() as own:
                files = own.files(champion.model)
        model = self._load(champion, *files, variant)
        return model, model.warm_up(time.monotonic)


def _key(deployment: Deployment) -> Key:
    model = deployment.champion.model
    return model.use_case, model.region
