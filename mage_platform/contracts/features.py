"""The feature vector and the schema it keeps."""

from __future__ import annotations

import json
import math
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field, model_validator

from mage_platform.contracts.strict import Contract, FieldError

ENTITY_NAMESPACE = uuid.UUID("388aaa70-94b2-518a-98b6-b1ef7e808341")
"""Namespace of every entity id; fixed for ever, since ids made with another one would not meet."""


class FeatureVector(Contract):
    """What is known of one entity at one moment: the contract between producer and consumer."""

    entity_id: str = Field(..., description="Unique entity identifier: a UUIDv5 of the entity's natural key")
    features: dict[str, Any] = Field(..., description="Feature key-value pairs")
    event_time: AwareDatetime = Field(
        default_factory=lambda: datetime.now(UTC), description="When the vector was true, with its time zone"
    )


_KINDS = {
    "integer": "must be a whole number",
    "number": "must be a number",
    "category": "must be text",
    "boolean": "must be true or false",
}


class FeatureColumn(Contract):
    """Type and range of one feature."""

    type: Literal["integer", "number", "category", "boolean"]
    """`category` is text; H2O reads it as a factor."""
    minimum: float | None = None
    """Least value, inclusive. Only for numbers."""
    maximum: float | None = None
    """Greatest value, inclusive. Only for numbers."""
    missing: Literal["allowed", "refused"] = "refused"
    """Whether a vector may hold null here."""
    unknown: Literal["missing", "refused"] = "missing"
    """What a prediction does with a level the model was not trained on: take it as missing, as H2O does, or refuse it.
    Only for categories."""
    description: str = ""
    """What it means, with its unit."""

    @model_validator(mode="after")
    def _range_fits(self) -> FeatureColumn:
        if self.type in ("category", "boolean") and (self.minimum is not None or self.maximum is not None):
            at = "minimum" if self.minimum is not None else "maximum"
            raise FieldError(f"a {self.type} has no minimum or maximum: leave {at} out", at)
        if self.type != "category" and self.unknown != "missing":
            raise FieldError(f"only a category has levels that may be unknown, no {self.type}: leave it out", "unknown")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise FieldError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}: change one", "minimum")
        return self

    def broken_rule(self, value: Any) -> str | None:
        """The rule that a value of JSON breaks, as a sentence's end; None when it fits.

        >>> FeatureColumn(type="integer", maximum=12).broken_rule(13)
        'must be at most 12'
        """
        if value is None:
            return None if self.missing == "allowed" else "must not be null"
        kind = type(value)
        if self.type == "category":
            return None if kind is str else _KINDS["category"]
        if self.type == "boolean":
            return None if kind is bool else _KINDS["boolean"]
        if kind not in (int, float):
            return _KINDS[self.type]
        if kind is float and not math.isfinite(value):
            return "must be finite"
        if self.type == "integer" and kind is float and not value.is_integer():
            return _KINDS["integer"]
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}"
        return None if -sys.float_info.max <= value <= sys.float_info.max else "is too large for a float64"


class InputSchema(Contract):
    """The features of a model, in the order of the use case's declaration."""

    columns: dict[str, FeatureColumn] = Field(..., min_length=1)

    @property
    def names(self) -> list[str]:
        """Feature names in declared order."""
        return list(self.columns)


def entity_id_of(use_case: str, key: Sequence[Any]) -> uuid.UUID:
    """Id of the entity with this natural key: UUIDv5, so that any producer derives the same one.

    Args:
        use_case: Name of the use case; keys of two use cases never meet.
        key: The values of the natural key, in declared order. Times must have a time zone; they count in UTC.

    Raises:
        ValueError: A value is missing (None or NaN), or a time has no time zone.

    >>> str(entity_id_of("demo", ["UA", 1545]))
    '7cf06540-e6e0-54cb-8483-c525c4b50d97'
    """
    canonical = json.dumps([use_case, *map(canonical_text, key)], ensure_ascii=False, separators=(",", ":"))
    return uuid.uuid5(ENTITY_NAMESPACE, canonical)


def canonical_text(value: Any) -> str:
    """One value of a natural key, as every producer writes it.

    Raises:
        ValueError: It is missing, or a time without time zone.
    """
    if value is None or value != value:
        raise ValueError("a value of the natural key is missing")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"the time {value.isoformat()} of the natural key has no time zone")
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
