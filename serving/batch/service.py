"""The path of a batch: read and encode, look vectors up, ask the cache, score, write.

Reading and writing take the interpreter, so they are done in short pieces by threads of their own. Scoring is done
outside of the interpreter, in an executor for batches alone: a single prediction never waits behind a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import ValidationError

from mage_platform.contracts import BatchHead, FeatureVector
from mage_platform.contracts.models import CachePolicy
from serving.batch.answer import Answer
from serving.batch.columns import ColumnEncoder, Floats
from serving.batch.gathered import Batch, Wanted
from serving.batch.json_request import JsonRequest
from serving.batch.look_aside import LookAside, keys_of
from serving.batch.scoring import BatchScorer
from serving.cache import Cache
from serving.calls import Call
from serving.chosen_vector import refuse_too_old
from serving.encoding import Fault, VectorRefused
from serving.front_door import Route, not_accepted
from serving.models import ServedModel
from serving.prediction_log import PredictionLog
from serving.problems import VectorNotStored, VectorTooOld, as_invalid_request
from serving.repository import Repository
from serving.room import Berths

ARROW = b"application/vnd.apache.arrow.stream"
READING_THREADS = 2
LOOKUPS = 1_000
"""Entities of one query: what comes back is taken apart on the event loop."""
DATED_LOOKUPS = 16
"""Entities looked up side by side whose newest vector is later than the moment of their prediction."""
BODIES_AT_ONCE = 2
"""Of the greatest length."""
BATCHES_AT_ONCE = 16

T = TypeVar("T")


class VectorStore(Protocol):
    """Where stored vectors are looked up."""

    async def latest(self, use_case: str, region: str, entity_id: UUID, not_after: Any) -> FeatureVector:
        """The newest vector of an entity, not later than `not_after` where that is given."""

    async def latest_many(self, use_case: str, region: str, entity_ids: Any) -> dict[UUID, FeatureVector]:
        """The newest vectors of some entities."""


def accepts(content_type: bytes) -> None:
    """Let JSON and Arrow streams in.

    Raises:
        BodyNotJson: It is neither.
    """
    kind = _kind(content_type)
    if kind != ARROW and kind != b"application/json" and not kind.endswith(b"+json"):
        rule = f"must be application/json or {ARROW.decode()}"
        raise not_accepted("content-type", rule, content_type)


def batch_route(path: str, batches: Batches, maximum_mib: int) -> Route:
    """The way in for batches.

    Args:
        path: Of the route.
        batches: Answers them.
        maximum_mib: Of one body; all that are under way may have twice as much.
    """
    longest = maximum_mib << 20
    return Route(path, batches.answer, longest, accepts, berths=Berths(BODIES_AT_ONCE * longest, BATCHES_AT_ONCE))


class Batches:
    """Answers batches.

    Args:
        repository: The served models.
        vectors: Stored vectors, for rows without features.
        cache: The look-aside cache.
        policy: When the cache takes part.
        maximum_rows: Of one batch.
        threads: That score.
        kept: Keeps the rows that name their entity; None keeps none.
    """

    def __init__(
        self,
        repository: Repository,
        vectors: VectorStore,
        cache: Cache,
        policy: CachePolicy,
        *,
        maximum_rows: int,
        threads: int,
        kept: PredictionLog | None = None,
    ) -> None:
        self._repository, self._vectors = repository, vectors
        self._look_aside = LookAside(cache, policy)
        self._maximum_rows, self._kept = maximum_rows, kept
        self._scorer = BatchScorer(threads)
        self._readers = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="batch")
        self._encoders: WeakKeyDictionary[ServedModel, ColumnEncoder] = WeakKeyDictionary()

    def close(self) -> None:
        """Wait for what is under way and end the threads."""
        self._readers.shutdown(wait=True)
        self._scorer.close()

    async def answer(self, body: bytes, call: Call) -> bytes:
        """Answer one batch.

        Args:
            body: `PredictBatchRequest` as JSON, or an Arrow stream whose request stands in the query.
            call: The request; what becomes known of it is noted there.

        Returns:
            `PredictBatchResponse` or `PredictColumnsResponse` as JSON, or an Arrow stream where the caller wants one.

        Raises:
            PlatformError: The request cannot be answered.
        """
        headers = dict(call.headers)
        if _kind(headers.get(b"content-type", b"")) == ARROW:
            head = _head_of(call.query)
            model = self._model(head, call)
            batch = await self._in_thread(_read_arrow, body, head, model, self._encoder(model), self._maximum_rows)
        else:
            request = JsonRequest(body, self._maximum_rows)
            head = await self._in_thread(request.head)
            model = self._model(head, call)
            batch = await self._in_thread(request.encode, model, self._encoder(model))
            del request  # its columns; the batch has rows by now
        call.rows = len(batch.rows)
        call.mark_parsed()
        if batch.wanted:
            await self._look_up(batch, model)
        batch.hold()
        call.mark_encoded()
        scores, cached = await self._scored(batch, model)
        call.mark_scored()
        call.cached = cached == call.rows
        if any(_kind(wanted) == ARROW for wanted in headers.get(b"accept", b"").split(b",")):
            call.media_type = ARROW
        answer = await self._in_thread(_write, Answer(model, batch, scores, cached), call.media_type)
        if self._kept is not None and batch.entity_ids is not None and model.version.log_predictions:
            record, ids = self._kept.record_batch, batch.entity_ids
            self._kept.dropped += await self._in_thread(record, call, model, ids, batch.rows, scores, batch.refused)
        return answer

    def _model(self, head: BatchHead, call: Call) -> ServedModel:
        call.use_case, call.region = head.use_case, head.region
        call.allow(head.use_case)
        call.model = model = self._repository.model(head.use_case, head.region)
        call.fallback = model.version.region != head.region
        return model

    def _encoder(self, model: ServedModel) -> ColumnEncoder:
        encoder = self._encoders.get(model)
        if encoder is None:
            encoder = self._encoders[model] = ColumnEncoder(model.encoder, model.levels)
        return encoder

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, copy_context().run, work, *arguments)

    async def _look_up(self, batch: Batch, model: ServedModel) -> None:
        """Find the vectors that are wanted and encode them."""
        found: list[tuple[Wanted, FeatureVector | None]] = []
        for begin in range(0, len(batch.wanted), LOOKUPS):
            wanted = batch.wanted[begin : begin + LOOKUPS]
            head = batch.head
            newest = await self._vectors.latest_many(head.use_case, head.region, [one.entity_id for one in wanted])
            later: list[Wanted] = []
            for one in wanted:
                vector = newest.get(one.entity_id)
                if vector is None:
                    found.append((one, None))
                elif one.event_time is not None and vector.event_time > one.event_time:
                    later.append(one)
                else:
                    found.append((one, vector))
            for first in range(0, len(later), DATED_LOOKUPS):
                group = later[first : first + DATED_LOOKUPS]
                vectors = await asyncio.gather(*(self._earlier(head, one) for one in group))
                found += zip(group, vectors, strict=True)
        await self._in_thread(_encode_stored, batch, model, found)

    async def _earlier(self, head: BatchHead, wanted: Wanted) -> FeatureVector | None:
        try:
            return await self._vectors.latest(head.use_case, head.region, wanted.entity_id, wanted.event_time)
        except VectorNotStored:
            return None

    async def _scored(self, batch: Batch, model: ServedModel) -> tuple[Floats, int]:
        """The scores, NaN for a faulty row; and how many are from the cache."""
        scores = np.full((len(batch.rows), model.mojo.prediction_width), np.nan)
        open_rows = ~batch.refused
        hits = 0
        keys: list[str] = []
        if self._look_aside.asked(len(batch.rows), model):
            keys = await self._in_thread(keys_of, model, batch.rows)
            hits = await self._look_aside.read(model, keys, scores, open_rows)
        if not hits and open_rows.all():
            scores = await self._scorer.score(model, batch.rows)
        elif open_rows.any():
            scores[open_rows] = await self._scorer.score(model, batch.rows[open_rows])
        if keys:
            await self._look_aside.keep(model, keys, scores, open_rows)
        return scores, hits


def _kind(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _write(answer: Answer, media_type: bytes) -> bytes:
    return answer.as_arrow() if media_type == ARROW else answer.as_json()


def _head_of(query: bytes) -> BatchHead:
    """What holds for all rows of an Arrow stream.

    Raises:
        RequestInvalid: The query lacks something, or holds something else.
    """
    try:
        return BatchHead.model_validate(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))
    except ValidationError as error:
        raise as_invalid_request(error) from None


def _field(batch: Batch, wanted: Wanted) -> str:
    return f"rows.{wanted.row}.entity_id" if batch.shape == "rows" else f"entity_ids.{wanted.row}"


def _not_stored(batch: Batch, wanted: Wanted) -> Fault:
    return Fault(_field(batch, wanted), "has no stored feature vector", str(wanted.entity_id))


def _encode_stored(batch: Batch, model: ServedModel, found: list[tuple[Wanted, FeatureVector | None]]) -> None:
    now = datetime.now(UTC)
    for wanted, vector in found:
        lacking = _lacking(batch, model, wanted, vector, now)
        features = vector.features if vector is not None and lacking is None else model.version.default_features
        if features is None:
            batch.refuse(wanted.row, lacking or _not_stored(batch, wanted))
            continue
        try:
            row = model.row({**features, **(wanted.overrides or {})}, batch.head.region)
        except VectorRefused as error:
            batch.refuse(wanted.row, *(_of_stored(batch, wanted, fault) for fault in error.faults))
        else:
            batch.defaulted += lacking is not None
            batch.rows[wanted.row] = np.frombuffer(row, np.float64)


def _lacking(
    batch: Batch, model: ServedModel, wanted: Wanted, vector: FeatureVector | None, now: datetime
) -> Fault | None:
    """Why a row has no stored vector to be answered for."""
    if vector is None:
        return _not_stored(batch, wanted)
    try:
        refuse_too_old(vector, wanted.event_time or now, model.version.maximum_vector_age_seconds)
    except VectorTooOld as error:
        return Fault(_field(batch, wanted), error.faults[0].message, error.faults[0].value)
    return None


def _of_stored(batch: Batch, wanted: Wanted, fault: Fault) -> Fault:
    name = fault.field.removeprefix("features.")
    if wanted.overrides and name in wanted.overrides:
        return Fault(f"rows.{wanted.row}.overrides.{name}", fault.message, fault.value)
    rule = f"has a stored or default vector that does not fit the model: {fault.field} {fault.message}"
    return Fault(_field(batch, wanted), rule, str(wanted.entity_id))


def _read_arrow(*arguments: Any) -> Batch:
    # 60 ms and 30 MiB, which a sidecar that is sent no Arrow stream does without.
    from serving.batch.arrow import read_batch

    return read_batch(*arguments)
