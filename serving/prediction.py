"""The path of one prediction: parse, find the model, find the vector, encode, ask the cache, score, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mage_platform.contracts import PredictRequest
from mage_platform.contracts.models import CachePolicy
from mage_platform.errors import PlatformError
from serving.cache import SILENCE, Cache
from serving.calls import Call
from serving.chosen_vector import ChosenVector, VectorStore, choose
from serving.jvm import Score
from serving.models import ServedModel
from serving.problems import RequestInvalid, as_invalid_request
from serving.repeated_keys import refuse_repeated, repeated
from serving.repository import Repository
from serving.scorer import Scorer
from serving.shadows import Shadows

_REQUEST: TypeAdapter[PredictRequest] = TypeAdapter(PredictRequest)
_parse = _REQUEST.validate_json


class Predictions:
    """Answers predictions.

    Args:
        repository: The served models.
        scorer: Runs the models.
        vectors: Stored vectors, for requests without features.
        cache: The look-aside cache.
        policy: When the cache takes part, where a use case does not say it.
    """

    def __init__(
        self, repository: Repository, scorer: Scorer, vectors: VectorStore, cache: Cache, policy: CachePolicy
    ) -> None:
        self.repository = repository
        self.shadows = Shadows(scorer)
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
        request, model = self.parse(body, call)
        if request.features is not None and request.overrides is None:
            features: Mapping[str, Any] = request.features
            event_time = request.event_time
            row, members = model.row(features, request.region), ""
        else:
            chosen = await self.choose(model, request)
            features, event_time = chosen.features, chosen.event_time
            row, members = chosen.row, chosen.member
        members += model.gaps(features, request.region, row)
        call.mark_encoded()
        score, cached = await self.score(model, row)
        call.mark_scored()
        call.cached, call.made_of = cached, (request.entity_id, event_time, features, score)
        if model.challenge is not None:
            self.shadows.offer(model.challenge, call, request.entity_id, features)
        return model.answer(request.entity_id, score, cached=cached, fallback=call.fallback, members=members)

    def parse(self, body: bytes, call: Call) -> tuple[PredictRequest, ServedModel]:
        """The request of a body, and the model that answers it; both are noted in the call.

        Raises:
            PlatformError: It is not in order, not allowed, or nothing answers it.
        """
        try:
            request = _parse(body)
        except ValidationError as error:
            raise self._all_faults(error, body, call) from None
        call.mark_parsed()
        call.use_case, call.region = request.use_case, request.region
        call.allow(request.use_case)
        if body.count(b":") != len(request.model_fields_set) + len(request.features or ()) + len(
            request.overrides or ()
        ):
            refuse_repeated(body)
        call.model = model = self.repository.model(request.use_case, request.region, request.entity_id)
        call.variant = model.variant
        call.fallback = model.version.region != request.region
        return request, model

    async def choose(self, model: ServedModel, request: PredictRequest) -> ChosenVector:
        """The vector a request is answered for; see `chosen_vector.choose`."""
        return await choose(model, request, self._vectors)

    async def score(self, model: ServedModel, row: bytes) -> tuple[Score, bool]:
        """The prediction of an encoded vector, and whether it came from the cache."""
        policy = model.version.cache_policy or self._policy
        if policy == "off":
            return await self._scorer.submit(model.lane, row), False
        return await self._look_aside(model, row, policy)

    async def _look_aside(self, model: ServedModel, row: bytes, policy: CachePolicy) -> tuple[Score, bool]:
        use, cache, scoring = model.cache_use, self._cache, model.lane.model.seconds_per_row
        if not use.asks(policy, row, read_seconds=cache.read_seconds, score_seconds=scoring) or not cache.open:
            use.left_out += 1
            return await self._scorer.submit(model.lane, row), False
        key = model.cache_key(row)
        task = self._under_way.get(key)
        if task is not None:
            use.joined += 1
        else:
            task = asyncio.get_running_loop().create_task(self._read_or_score(model, row, key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Shielded: one caller's cancellation must not cancel the others that wait for the same key.
        return await asyncio.shield(task)

    async def _read_or_score(self, model: ServedModel, row: bytes, key: str) -> tuple[Score, bool]:
        use, value = model.cache_use, await self._cache.look_up(key)
        if value is SILENCE:
            use.silent += 1
        else:
            kept = None if value is None else model.from_cache(key, value)
            use.found(hit=kept is not None)
            if kept is not None:
                return kept, True
            if value is not None:
                use.refused += 1
                self._cache.refuse_value()
        score = await self._scorer.submit(model.lane, row)
        self._cache.write(key, model.cache_value(key, score), model.version.cache_ttl_seconds)
        return score, False

    def _all_faults(self, error: ValidationError, body: bytes, call: Call) -> PlatformError:
        """What is wrong with the request, and with its features as well where a model can tell.

        Raises:
            PlatformError: The caller's key is not for the use case, about which it is told nothing then.
        """
        problem = as_invalid_request(error)
        if not isinstance(problem, RequestInvalid):
            return problem
        sent: Mapping[str, Any] = request if isinstance(request := from_json(body), dict) else {}
        use_case, region, features = sent.get("use_case"), sent.get("region"), sent.get("features")
        if not (isinstance(use_case, str) and isinstance(region, str) and isinstance(features, dict)):
            return problem
        call.allow(use_case)
        model = self.repository.served(use_case, region)
        if model is None:
            return problem
        return RequestInvalid([*problem.faults, *repeated(body), *model.faults(features, region)])
