"""What the prediction API takes and gives of many predictions at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field

from mage_platform.contracts.models import ModelReference
from mage_platform.contracts.prediction import no_number
from mage_platform.contracts.strict import Contract, Name, Region


class PredictRow(Contract):
    """One row of a batch: by features, or by entity."""

    entity_id: UUID = Field(..., description="The entity: UUIDv5 of its natural key")
    features: dict[str, Any] | None = Field(
        None, description="Feature vector; left out, the entity's newest vector is looked up"
    )
    overrides: dict[str, Any] | None = Field(
        None, description="Features that replace those of the vector that is looked up; not beside `features`"
    )
    event_time: Annotated[AwareDatetime, BeforeValidator(no_number)] | None = Field(
        None, description="Moment of the prediction, as in a single one"
    )


class BatchHead(Contract):
    """What holds for all rows of a batch."""

    use_case: Name = Field(..., description="Name of the use case", examples=["flight_delays"])
    region: Region = Field(..., description="Region whose champion answers, for all rows", examples=["JFK"])
    on_error: Literal["refuse", "report"] = Field(
        "refuse",
        description="`refuse`: a faulty row refuses the batch, and nothing is scored. `report`: the other rows are "
        "answered, a faulty one with null",
    )


class PredictBatchRequest(BatchHead):
    """Many predictions, as `rows`, or as `columns` with `entity_ids` beside them, or of `entity_ids` alone.

    It is read quickest when `use_case` and `region` stand first.
    """

    rows: list[PredictRow] | None = Field(None, description="One object for each row")
    columns: dict[str, list[Any]] | None = Field(
        None, description="One list for each feature, all of one length; null is missing"
    )
    entity_ids: list[UUID] | None = Field(
        None, description="The entity of each row of `columns`; without `columns`, whose newest vectors are looked up"
    )


class RowError(Contract):
    """One thing that is wrong with a row of a batch."""

    row: int = Field(..., description="Number of the row, from 0")
    field: str = Field(..., examples=["rows.17.features.month", "columns.month.17"])
    message: str
    value: Any = None


class RowAnswer(Contract):
    """The answer to one row; null for a faulty one."""

    entity_id: UUID | None
    prediction: str | float | None
    probabilities: dict[str, float] | None


class _BatchResponse(Contract):
    model: ModelReference
    fallback: bool = Field(..., description="True when the pooled model answered for a region without one of its own")
    cached: int = Field(..., description="How many rows were answered from the cache")
    defaulted: int = Field(
        0, description="How many rows were answered for the use case's default, for want of a stored vector"
    )
    faulty: int = Field(0, description="How many rows were faulty; only with `on_error: report`")
    errors: list[RowError] = Field([], description="What is wrong with them; the first thousand")


class PredictBatchResponse(_BatchResponse):
    """The answer to a batch of rows, in their order."""

    rows: list[RowAnswer]


class PredictColumnsResponse(_BatchResponse):
    """The answer to a batch of columns, in the order of its rows."""

    entity_ids: list[UUID | None] | None = Field(..., description="As they were sent; null when none were")
    predictions: list[str | float | None]
    probabilities: dict[str, list[float | None]] | None = Field(
        ..., description="For each class one probability a row; none for a number"
    )
