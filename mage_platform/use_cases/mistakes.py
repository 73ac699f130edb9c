"""What the contract refuses, in words that say what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import FieldError
from mage_platform.use_cases.declaration import Declaration, Location, Mistake

_EXAMPLES = {
    "name": "flight_delays",
    "title": "Late arrivals",
    "source": "{file: rows.parquet}",
    "entity": "{key: [customer_id]}",
    "key": "[customer_id]",
    "event_time": "booked_at",
    "region": "city",
    "target": "{column: late, kind: binary}",
    "column": "late",
    "known_at": "arrived_at",
    "features": "{columns: {hour: {type: integer}}}",
    "columns": "{hour: {type: integer}}",
    "type": "integer",
    "expectations": "{rows: [...], table: [...]}",
    "training": "{train_until: ..., validate_until: ..., blend_until: ..., test_until: ...}",
    "train_from": "2024-01-01T00:00:00Z",
    "train_until": "2024-05-01T00:00:00Z",
    "validate_until": "2024-05-15T00:00:00Z",
    "blend_until": "2024-06-01T00:00:00Z",
    "test_until": "2024-07-01T00:00:00Z",
    "function": "module:function",
    "query": "rows.sql",
    "promotion": "{metric: auc}",
    "serving": "{cache_ttl_seconds: 300}",
    "pooled": "{enabled: true}",
}
_BOUNDS = {
    "greater_than_equal": ("that is at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("that is at most", "le"),
    "less_than": ("below", "lt"),
}
_MAPPINGS = ("model_type", "dict_type", "model_attributes_type")


def explain(declaration: Declaration, error: ValidationError) -> list[Mistake]:
    """Each thing the contract refuses, once, with its line."""
    found: dict[Location, Mistake] = {}
    for mistake in error.errors(include_url=False):
        location, message = _told(declaration, mistake)
        found.setdefault(location, declaration.mistake(location, message))
    return list(found.values())


def _told(declaration: Declaration, mistake: Any) -> tuple[Location, str]:
    kind, location, value = mistake["type"], tuple(mistake["loc"]), mistake["input"]
    context = mistake.get("ctx") or {}
    if kind == "value_error":
        reason = context.get("error")
        if isinstance(reason, FieldError):
            return (*location, *reason.at), str(reason)
        return location, f"{value!r} {reason}" if not isinstance(value, (dict, list)) else str(reason)
    if location[-1:] == ("[key]",):
        written = declaration.key_at(location[:-1])
        return location[:-1], f"the key is read as {value!r}, no text: put it in quotes{_as_written(written, value)}"
    if location[:2] == ("target", "positive"):
        return location[:2], f"{value!r} is no class: write a text, a whole number, true or false"
    name = str(location[-1]) if location else "use case"
    if kind == "extra_forbidden":
        return location, _unknown(declaration, location)
    if kind == "missing":
        return location, f"is missing: write `{name}: {_EXAMPLES.get(name, '...')}`"
    return location, _wrong_value(kind, name, value, context, mistake["msg"], declaration.text_of(location))


def _wrong_value(kind: str, name: str, value: Any, context: Any, message: str, written: str | None) -> str:
    shown = _shown(value) + (f" (written as {written})" if isinstance(value, bool) and written else "")
    example = f"`{name}: {_EXAMPLES[name]}`" if name in _EXAMPLES else ""
    if kind == "literal_error":
        known = [each.strip(" '") for each in context["expected"].replace(" or ", ", ").split(",")]
        near = get_close_matches(str(value), known, n=1, cutoff=0.5)
        return f"{shown} is none of {', '.join(known)}" + (f": did you mean {near[0]}?" if near else "")
    if kind == "list_type":
        return f"{shown} is no list: write it in brackets, `{name}: [{value if isinstance(value, str) else '...'}]`"
    if kind in _MAPPINGS:
        return f"{shown} is no mapping" + (f": write {example}" if example else ": write `name: value` pairs, {...}")
    if kind == "string_type":
        if isinstance(value, (dict, list)):
            return f"{shown} is no text: write {example or f'`{name}: ...`'}"
        return f"{shown} is read as {_kind_of(value)}, but a text is wanted: write it in quotes, '{written or value}'"
    if kind.startswith(("timezone_", "datetime_", "date_")):
        moment = value.isoformat() if isinstance(value, date) else None
        if isinstance(value, datetime):
            return f"{moment} has no time zone: write {moment}Z for UTC"
        write = f"{moment}T00:00:00Z" if moment else "2024-05-01T00:00:00Z"
        return f"{shown} is no time with a time zone: write {write}"
    if kind == "string_pattern_mismatch":
        if name == "name":
            return f"{shown} is no name: lower case letters, digits and underscores, a letter first"
        write = f", such as {_EXAMPLES[name]}" if name in _EXAMPLES else ""
        return f"{shown} does not look as it should{write} (pattern {context['pattern']})"
    if kind in ("int_parsing", "int_from_float", "int_type", "float_parsing", "float_type"):
        return f"{shown} is no {'whole number' if kind.startswith('int') else 'valid number'}" + _as_number(value)
    if kind in ("bool_parsing", "bool_type"):
        return f"{shown} is neither true nor false"
    if kind in _BOUNDS:
        rule, bound = _BOUNDS[kind]
        return f"{shown} is out of range: write a number {rule} {context[bound]:g}"
    if kind == "too_short":
        return f"is empty: write {example or 'at least one entry'}"
    return f"{message} (found {shown})"


def _unknown(declaration: Declaration, location: Location) -> str:
    *way, name = location
    model = _model_at(tuple(way))
    known = list(model.model_fields) if model is not None else []
    near = get_close_matches(str(name), known, n=1, cutoff=0.6)
    place = f"`{'.'.join(map(str, way))}`" if way else "the top level"
    if near:
        return f"is not known at {place}: did you mean `{near[0]}`?"
    if elsewhere := [each for each, fields in _all_fields() if name in fields]:
        belongs = f"below `{elsewhere[0]}`" if elsewhere[0] else "at the top level, without indentation"
        return f"is not known at {place}; `{name}` stands {belongs}: move it there"
    return f"is not known at {place}; there are {', '.join(known)}"


def _model_at(way: Location) -> type[BaseModel] | None:
    model: Any = UseCase
    for part in way:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = field.annotation if field else None
        models = [each for each in (model, *get_args(model)) if isinstance(each, type) and issubclass(each, BaseModel)]
        model = models[0] if models else model
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _all_fields(model: type[BaseModel] = UseCase, way: str = "") -> Iterator[tuple[str, set[str]]]:
    yield way, set(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_fields(field.annotation, f"{way}.{name}".lstrip("."))


def _as_written(written: str | None, value: Any) -> str:
    return f", '{written}'" if written is not None and written != str(value) else ""


def _as_number(value: Any) -> str:
    if isinstance(value, str) and value.endswith("%") and value[:-1].strip().replace(".", "", 1).isdigit():
        return f": write {float(value[:-1]) / 100:g}"
    return ": write digits, without unit or quotes"


def _shown(value: Any) -> str:
    return f"{value!r}" if not isinstance(value, (dict, list)) else f"{_kind_of(value)} {str(value)[:60]}"


def _kind_of(value: Any) -> str:
    names: dict[type, str] = {
        bool: "true or false", int: "a number", float: "a number", list: "the list", dict: "the mapping",
        date: "a date", datetime: "a time", type(None): "nothing",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)
