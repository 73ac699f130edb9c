"""The path of one prediction: parse, find the model, find the vector, encode, ask the cache, score, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mage_platform.contracts import FeatureVector, PredictRequest
from mage_platform.errors import PlatformError
from mage_platform.settings import CachePolicy
from serving.cache import Cache
from serving.cache_policy import takes_part
from serving.calls import Call
from serving.encoding import Fault, VectorRefused
from serving.jvm import Score
from serving.models import ServedModel
from serving.problems import RequestInvalid, VectorTooOld, as_invalid_request
from serving.repository import Repository
from serving.scorer import Scorer

_REQUEST: TypeAdapter[PredictRequest] = TypeAdapter(PredictRequest)
_parse = _REQUEST.validate_json


class VectorStore(Protocol):
    """Where stored vectors are looked up."""

    async def latest(self, use_case: str, region: str, entity_id: UUID, not_after: Any) -> FeatureVector:
        """The newest vector of an entity, not later than `not_after` where that is given."""


class Predictions:
    """Answers predictions.

    Args:
        repository: The served models.
        scorer: Runs the models.
        vectors: Stored vectors, for requests without features.
        cache: The look-aside cache.
        policy: When the cache takes part.
    """

    def __init__(
        self, repository: Repository, scorer: Scorer, vectors: VectorStore, cache: Cache, policy: CachePolicy
    ) -> None:
        self.repository = repository
        self._scorer = scorer
        self._vectors = vectors
        self._cache = cache
        self._policy: CachePolicy = policy
        self._under_way: dict[str, asyncio.Task[tuple[Score, bool]]] = {}

    async def answer(self, body: bytes, call: Call) -> bytes:
        """Answer one request.

        Args:
            body: `PredictRequest` as JSON.
            call: The request; what becomes known of it is noted there.

        Returns:
            `PredictResponse` as JSON.

        Raises:
            PlatformError: The request cannot be answered.
        """
        try:
            request = _parse(body)
        except ValidationError as error:
            raise self._all_faults(error, body) from None
        call.mark_parsed()
        call.use_case, call.region = request.use_case, request.region
        call.allow(request.use_case)
        call.model = model = self.repository.model(request.use_case, request.region)
        if request.features is not None:
            row = model.row(request.features, request.region)
        else:
            row = await self._stored_row(model, request)
        call.mark_encoded()
        if self._policy == "off":
            score, cached = await self._scorer.submit(model.lane, row), False
        else:
            score, cached = await self._look_aside(model, row)
        call.mark_scored()
        call.cached, call.fallback = cached, (fallback := model.version.region != request.region)
        return model.answer(request.entity_id, score, cached=cached, fallback=fallback)

    async def _stored_row(self, model: ServedModel, request: PredictRequest) -> bytes:
        vector = await self._vectors.latest(request.use_case, request.region, request.entity_id, request.event_time)
        refuse_too_old(vector, request.event_time or datetime.now(UTC), model.version.maximum_vector_age_seconds)
        try:
            return model.row(vector.features, request.region)
        except VectorRefused as error:
            error.message = (
                f"the stored vector of {vector.event_time.isoformat()} does not fit the model: {error.message}. "
                "Ingest the entity again, or send `features`"
            )
            raise

    async def _look_aside(self, model: ServedModel, row: bytes) -> tuple[Score, bool]:
        key = model.cache_key(row)
        if not self._cache.open or not takes_part(
            self._policy,
            key,
            hit_share=model.hit_share.value,
            read_seconds=self._cache.read_seconds,
            score_seconds=model.lane.model.seconds_per_row,
        ):
            return await self._scorer.submit(model.lane, row), False
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read_or_score(model, row, key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Shielded: one caller's cancellation must not cancel the others that wait for the same key.
        return await asyncio.shield(task)

    async def _read_or_score(self, model: ServedModel, row: bytes, key: str) -> tuple[Score, bool]:
        value = await self._cache.read(key)
        kept = None if value is None else model.from_cache(value)
        if value is not None and kept is None:
            self._cache.refuse_value()
        model.hit_share.observe(hit=kept is not None)
        if kept is not None:
            return kept, True
        score = await self._scorer.submit(model.lane, row)
        self._cache.write(key, model.cache_value(score), model.version.cache_ttl_seconds)
        return score, False

    def _all_faults(self, error: ValidationError, body: bytes) -> PlatformError:
        """What is wrong with the request, and with its features as well where a model can tell."""
        problem = as_invalid_request(error)
        if not isinstance(problem, RequestInvalid):
            return problem
        sent: Mapping[str, Any] = request if isinstance(request := from_json(body), dict) else {}
        use_case, region, features = sent.get("use_case"), sent.get("region"), sent.get("features")
        if not (isinstance(use_case, str) and isinstance(region, str) and isinstance(features, dict)):
            return problem
        model = self.repository.served(use_case, region)
        if model is None:
            return problem
        return RequestInvalid([*problem.faults, *model.faults(features, region)])


def refuse_too_old(vector: FeatureVector, moment: datetime, maximum_age_seconds: int | None) -> None:
    """Hold a stored vector against the age its use case allows, at the moment of the prediction.

    Raises:
        VectorTooOld: It is older.
    """
    if maximum_age_seconds is None or moment - vector.event_time <= timedelta(seconds=maximum_age_seconds):
        return
    event_time = vector.event_time.isoformat()
    raise VectorTooOld(
        f"the newest stored vector of entity {vector.entity_id} is of {event_time}, more than the allowed "
        f"{maximum_age_seconds} seconds before {moment.isoformat()}: ingest the entity again, or send `features`",
        Fault("entity_id", f"has no stored feature vector of the last {maximum_age_seconds} seconds", event_time),
    )
