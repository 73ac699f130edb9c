"""What the prediction API takes and gives."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from mage_platform.contracts.models import ModelReference
from mage_platform.contracts.strict import Contract, Name, Region


def no_number(moment: Any) -> Any:
    """Seconds since 1970 would be taken for a time, also as text, and nobody could tell them from milliseconds."""
    if isinstance(moment, int | float) or (isinstance(moment, str) and moment[4:5] != "-"):
        raise PydanticCustomError("datetime_type", "Input should be a valid datetime")
    return moment


class PredictRequest(Contract):
    """One prediction: by features, or by entity (then its newest stored vector is looked up)."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "required": ["features", "overrides"],
                "properties": {"features": {"type": "object"}, "overrides": {"type": "object"}},
            }
        }
    )

    use_case: Name = Field(..., description="Name of the use case", examples=["flight_delays"])
    region: Region = Field(..., description="Region whose champion answers", examples=["JFK"])
    entity_id: UUID = Field(..., description="The entity: UUIDv5 of its natural key")
    features: dict[str, Any] | None = Field(
        None, description="Feature vector; left out, the entity's newest vector is looked up"
    )
    overrides: dict[str, Any] | None = Field(
        None, description="Features that replace those of the vector that is looked up; not beside `features`"
    )
    event_time: Annotated[AwareDatetime, BeforeValidator(no_number)] | None = Field(
        None,
        description="Moment of the prediction, with time zone; the newest vector not after it is looked up",
    )


class VectorUsed(Contract):
    """Which vector was answered for, when the request did not bring a whole one."""

    source: Literal["stored", "default"] = Field(
        ..., description="The entity's newest vector, or the use case's default where that is missing or too old"
    )
    event_time: AwareDatetime | None = Field(None, description="When the stored vector was true; null for the default")
    overridden: list[str] = Field([], description="Features that the request replaced")


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
    vector: VectorUsed | None = Field(
        None, description="Which vector was answered for; left out when the request brought its features"
    )
    missing: list[str] = Field(
        [], description="Features that were null or left out, and scored as missing; not there when none was"
    )
    unknown_levels: list[str] = Field(
        [],
        description="Features whose level the model was not trained on, and scored as missing; not there when none was",
    )


class Contribution(Contract):
    """What one feature contributed to a score."""

    feature: str
    value: Any = Field(..., description="What the vector holds; null where it is missing")
    contribution: float = Field(..., description="How far it moved the score, on the explanation's scale")


class ExplainedBy(Contract):
    """The model whose score is taken apart."""

    algorithm: str
    same_model: bool = Field(
        ..., description="False when a tree model that was trained beside the answering model explains in its place"
    )
    note: str | None = Field(None, description="What that means for the numbers; null for the same model")


class ExplainResponse(Contract):
    """A prediction taken apart: `bias` and all contributions sum up to `score`."""

    entity_id: UUID
    prediction: str | float = Field(..., description="As `/v1/predict` answers it")
    probabilities: dict[str, float] | None = Field(None, description="As `/v1/predict` answers them")
    model: ModelReference
    fallback: bool = Field(
        False, description="True when the region has no model of its own and the pooled model answered"
    )
    vector: VectorUsed | None = Field(
        None, description="Which vector was answered for; null when the request brought its features"
    )
    explained_by: ExplainedBy
    scale: Literal["log_odds", "probability", "logarithm", "number"] = Field(
        ...,
        description="Of score, bias and contributions: log odds or probability of the class `explains`, or the "
        "predicted number's logarithm or the number itself",
    )
    explains: str | None = Field(None, description="The class whose chance the score tells; null for a number")
    score: float = Field(..., description="Of the explaining model")
    bias: float = Field(..., description="The score before anything is known of the vector: the mean over the training")
    contributions: list[Contribution] = Field(
        ..., description="Every feature of the model once, the greatest contribution (of either sign) first"
    )
