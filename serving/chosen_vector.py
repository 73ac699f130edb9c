"""The vector of a prediction by entity: the newest stored one, or a default, with what the request replaces.

A vector that is missing, or older than the use case allows, is refused unless the use case states a default; a vector
that could not be looked up is refused in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from mage_platform.contracts import FeatureVector, PredictRequest, VectorUsed
from serving.encoding import Fault, VectorRefused
from serving.models import ServedModel
from serving.problems import RequestInvalid, VectorNotStored, VectorTooOld


class VectorStore(Protocol):
    """Where stored vectors are looked up."""

    async def latest(self, use_case: str, region: str, entity_id: UUID, not_after: Any) -> FeatureVector:
        """The newest vector of an entity, not later than `not_after` where that is given."""


@dataclass(frozen=True)
class ChosenVector:
    """What is predicted from."""

    features: Mapping[str, Any]
    row: bytes
    """The same, encoded for the model."""
    used: VectorUsed | None
    """Where it is from; None when the request brought it."""

    @property
    def event_time(self) -> datetime | None:
        """Of a stored vector."""
        return None if self.used is None else self.used.event_time

    @property
    def member(self) -> str:
        """What the answer says of it, with a comma before it; empty when the request brought it."""
        return "" if self.used is None else f',"vector":{self.used.model_dump_json()}'


async def choose(model: ServedModel, request: PredictRequest, vectors: VectorStore) -> ChosenVector:
    """The vector a request is answered for.

    Args:
        model: Which answers it.
        request: With its own features, or by entity.
        vectors: Where stored ones are looked up.

    Raises:
        RequestInvalid: It has both `features` and `overrides`.
        VectorRefused: The vector does not fit the model; what the request sent is named as it sent it.
        VectorNotStored, VectorTooOld: The entity has none, or none that is young enough, and there is no default.
        DatabaseUnavailable: It could not be looked up.
    """
    if request.features is not None:
        if request.overrides is not None:
            rule = "cannot stand beside `features`: send a whole vector, or what is to be replaced in the stored one"
            raise RequestInvalid([Fault("overrides", rule)])
        return ChosenVector(request.features, model.row(request.features, request.region), None)
    features, used = await _found(model, request, vectors)
    overrides = request.overrides
    if overrides:
        features = {**features, **overrides}
        used = used.model_copy(update={"overridden": list(overrides)})
    try:
        return ChosenVector(features, model.row(features, request.region), used)
    except VectorRefused as error:
        if overrides and any(_own(fault, overrides) for fault in error.faults):
            raise VectorRefused([_renamed(fault, overrides) for fault in error.faults]) from None
        whose = "default vector" if used.event_time is None else f"stored vector of {used.event_time.isoformat()}"
        error.message = (
            f"the {whose} does not fit the model: {error.message}. Ingest the entity again, or send `features`"
        )
        raise


async def _found(
    model: ServedModel, request: PredictRequest, vectors: VectorStore
) -> tuple[Mapping[str, Any], VectorUsed]:
    default = model.version.default_features
    try:
        vector = await vectors.latest(request.use_case, request.region, request.entity_id, request.event_time)
        refuse_too_old(vector, request.event_time or datetime.now(UTC), model.version.maximum_vector_age_seconds)
    except (VectorNotStored, VectorTooOld):
        if default is None:
            raise
        return default, VectorUsed(source="default")
    return vector.features, VectorUsed(source="stored", event_time=vector.event_time)


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


def _own(fault: Fault, overrides: Mapping[str, Any]) -> bool:
    return fault.field.removeprefix("features.") in overrides


def _renamed(fault: Fault, overrides: Mapping[str, Any]) -> Fault:
    if not _own(fault, overrides):
        return fault
    return replace(fault, field=f"overrides.{fault.field.removeprefix('features.')}")
