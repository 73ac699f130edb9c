"""What the prediction API takes and gives."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from mage_platform.contracts.models import ModelReference
from mage_platform.contracts.strict import Contract, Name, Region


class PredictRequest(Contract):
    """One prediction: by features, or by entity (then its newest stored vector is looked up)."""

    use_case: Name = Field(..., description="Name of the use case", examples=["flight_delays"])
    region: Region = Field(..., description="Region whose champion answers", examples=["JFK"])
    entity_id: UUID = Field(..., description="The entity: UUIDv5 of its natural key")
    features: dict[str, Any] | None = Field(
        None, description="Feature vector; left out, the entity's newest vector is looked up"
    )
    event_time: AwareDatetime | None = Field(
        None,
        description="Moment of the prediction, with time zone; the newest vector not after it is looked up",
    )


class PredictResponse(Contract):
    """The answer to one prediction."""

    entity_id: UUID
    prediction: str | float = Field(
        ..., description="Predicted class (of two, by the threshold stored in the model), or the predicted number"
    )
    probabilities: dict[str, float] | None = Field(None, description="Probability of each class; none for a number")
    model: ModelReference
    variant: Literal["champion", "canary"] = Field(
        "champion", description="As what the model answered: canaries answer a share of the entities"
    )
    fallback: bool = Field(
        False, description="True when the region has no model of its own and the pooled model answered"
    )
    cached: bool = Field(..., description="True when the answer came from the cache")
