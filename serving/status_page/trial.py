"""A prediction tried by hand: the fields of the form, what was typed into them, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from pydantic_core import from_json

from mage_platform.contracts import POOLED, FeatureColumn, entity_id_of
from serving.calls import Call
from serving.models import ServedModel
from serving.prediction import Predictions
from serving.problems import BodyMalformed, problem_of
from serving.status_page.formats import count, limit, percent

MOST_LEVELS = 200
"""Of a category that are offered; more would be the greater part of the page."""
MOST_FIELDS = 5_000
_LONGEST_NUMBER = 400
_whole = re.compile(r"[+-]?[0-9]+").fullmatch
_decimal = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?").fullmatch
_PREFIX = "features."


@dataclass(frozen=True)
class Field:
    """A feature in the form."""

    name: str
    type: str
    description: str
    hint: str
    text: str
    """What stands in it."""
    optional: bool
    levels: list[str]
    """Of a category, those that are offered."""


@dataclass
class Trial:
    """What the form holds, and what came of it.

    Args:
        model: The one to try.
        texts: What was typed, by the name of the field; empty before the first try.
    """

    model: ServedModel
    texts: Mapping[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the name of the field."""
    fault: str = ""
    """What is wrong with none of the fields."""
    request: str = ""
    """The request that was made of it, as JSON."""
    answer: dict[str, Any] | None = None

    @property
    def by_entity(self) -> bool:
        """Whether the newest vector of an entity is asked for, instead of a typed one."""
        return self.texts.get("by") == "entity"

    @property
    def pooled(self) -> bool:
        """Whether it is the model of all regions together."""
        return self.model.version.region == POOLED

    @property
    def region(self) -> str:
        """The region that is asked for."""
        return self.texts.get("region") or self.model.version.region

    @property
    def entity_id(self) -> str:
        """The entity that is asked for."""
        return self.texts.get("entity_id", "")

    def fields(self) -> list[Field]:
        """The features, the most important ones first."""
        version = self.model.version
        importance = version.variable_importance
        example = self.model.example()
        names = sorted(example, key=lambda name: -importance.get(name, 0.0))
        typed = bool(self.texts) and not self.by_entity
        return [
            Field(
                name=name,
                type=(column := version.input_schema.columns[name]).type,
                description=column.description,
                hint=_hint(column, self.model.levels.get(name, [])),
                text=self.texts.get(_PREFIX + name, "") if typed else _as_text(example[name]),
                optional=column.missing == "allowed",
                levels=self.model.levels.get(name, [])[:MOST_LEVELS] if column.type == "category" else [],
            )
            for name in names
        ]

    def bars(self) -> list[tuple[str, float, str]]:
        """The probability of each class, with how it is written; the most probable first."""
        probabilities = (self.answer or {}).get("probabilities") or {}
        ordered = sorted(probabilities.items(), key=lambda item: -item[1])
        return [(name, share, percent(share)) for name, share in ordered]


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form as a browser sends them.

    Raises:
        BodyMalformed: There are too many.
    """
    try:
        return dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise BodyMalformed(f"the form cannot be read: {error}") from None


async def run(trial: Trial, predictions: Predictions, call: Call) -> None:
    """Predict what the form asks for, by the way of every other request, and note what came of it."""
    version = trial.model.version
    request: dict[str, Any] = {"use_case": version.use_case, "region": trial.region}
    if trial.by_entity:
        request["entity_id"] = trial.entity_id.strip()
        if moment := trial.texts.get("event_time", "").strip():
            request["event_time"] = moment
    else:
        request["entity_id"] = str(_example_entity(trial.model))
        columns = version.input_schema.columns
        request["features"] = {
            name: _value(text, columns[name])
            for name in trial.model.example()
            if (text := trial.texts.get(_PREFIX + name)) is not None
        }
    trial.request = json.dumps(request, indent=2, ensure_ascii=False)
    try:
        trial.answer = from_json(await predictions.answer(trial.request.encode(), call))
    except Exception as error:  # the edge: as everywhere, every error is answered with what is known of it
        _note(trial, from_json(problem_of(error)[2]))


def _note(trial: Trial, problem: Mapping[str, Any]) -> None:
    shown = {"entity_id", "event_time"} if trial.by_entity else {_PREFIX + name for name in trial.model.example()}
    if trial.pooled:
        shown.add("region")
    for each in problem["errors"]:
        name, rule, value = each["field"], each["message"], each["value"]
        if name in shown:
            trial.faults[name] = "must be filled in" if value is None and not trial.texts.get(name) else rule
    if not trial.faults or any(each["field"] not in shown for each in problem["errors"]):
        trial.fault = problem["detail"]


def _example_entity(model: ServedModel) -> Any:
    return entity_id_of(model.version.use_case, ["example"])


def _value(text: str, column: FeatureColumn) -> Any:
    """What was meant by what was typed; what has no meaning stays as it is, and is refused like any other."""
    if column.type == "category":
        return text or None
    text = text.strip()
    if column.type == "boolean":
        return {"true": True, "false": False, "": None}.get(text, text)
    number = text.replace("\N{MINUS SIGN}", "-")
    if not text:
        return None
    if len(number) > _LONGEST_NUMBER:
        return text
    if _whole(number):
        return int(number)
    return float(number) if _decimal(number) else text


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).removesuffix(".0")


def _hint(column: FeatureColumn, levels: Sequence[str]) -> str:
    low, high = column.minimum, column.maximum
    parts = [{"integer": "whole number", "number": "number", "category": "text", "boolean": "yes or no"}[column.type]]
    if column.type == "category" and levels:
        parts.append(f"{count(len(levels))} values are known")
    if low is not None and high is not None:
        parts.append(f"{limit(low)} to {limit(high)}")
    elif low is not None:
        parts.append(f"at least {limit(low)}")
    elif high is not None:
        parts.append(f"at most {limit(high)}")
    if column.missing == "allowed":
        parts.append("may be empty")
    return ", ".join(parts)
