"""From a feature vector as JSON gives it to the row of float64 a MOJO scores, or to a list of what is wrong with it.

What a value means is settled here: `true` is not 1, `1` and `1.0` are the same number, `"1"` is not a number, a
category is text, NaN and the infinities are refused, a level the model was not trained on counts as missing (as H2O
does it).
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import ContractViolated, FeaturesInvalid

LARGEST = sys.float_info.max
TRUE_LEVELS = ("true", "1")
FALSE_LEVELS = ("false", "0")
Convert = Callable[[Any], float]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request.

    Args:
        field: Path of the field, as in `features.month`.
        message: The rule it breaks.
        value: What was sent; None for a field that was not sent.
    """

    field: str
    message: str
    value: Any = None


class VectorRefused(FeaturesInvalid):
    """A feature vector that cannot be scored, with everything that is wrong with it.

    Args:
        faults: At least one.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{first.field} {first.message}{more}", field=first.field)
        self.faults = tuple(faults)


class _Refused(Exception):  # a signal between the two functions below, never seen outside
    """A value does not fit its column."""


class RowEncoder:
    """Strict validation and encoding of one model's feature vectors, compiled once from schema and MOJO.

    Args:
        schema: What the vectors must keep.
        names: Columns of the MOJO, in its own order.
        domains: For each column the levels of a category in the order of their codes, or None for a number.

    Raises:
        ContractViolated: The MOJO does not fit the schema.
    """

    def __init__(self, schema: InputSchema, names: Sequence[str], domains: Sequence[Sequence[str] | None]) -> None:
        by_name = dict(zip(names, domains, strict=True))
        _refuse_misfits(schema, by_name)
        self.schema = schema
        self._known = frozenset(schema.columns)
        self._columns = tuple((name, _converter(schema.columns[name], by_name[name])) for name in names)
        # H2O drops constant columns: they are checked like the others, then left out.
        self._dropped = tuple(
            (name, _converter(column, ())) for name, column in schema.columns.items() if name not in by_name
        )
        self.names = tuple(names)
        """Columns of a row, in their order."""
        self._convert = dict((*self._columns, *self._dropped))
        self._pack = struct.Struct(f"={len(names)}d").pack

    def encode(self, features: Mapping[str, Any]) -> bytes:
        """The row as native float64: missing as NaN, never minus zero.

        Args:
            features: The vector. A feature that may be missing may also be left out.

        Raises:
            VectorRefused: Names every feature that does not fit.
        """
        get = features.get
        try:
            if not self._known.issuperset(features):
                raise _Refused
            row = [convert(get(name)) for name, convert in self._columns]
            for name, convert in self._dropped:
                convert(get(name))
        except _Refused:
            raise VectorRefused(self.faults(features)) from None
        return self._pack(*row)

    def value(self, name: str, value: Any) -> float | None:
        """One value of a feature as a row holds it; None for a value that is refused."""
        try:
            return self._convert[name](value)
        except _Refused:
            return None

    def faults(self, features: Mapping[str, Any]) -> list[Fault]:
        """Everything that is wrong with a vector, in the order of the schema; unknown features last."""
        faults = [
            Fault(f"features.{name}", message, features.get(name))
            for name, column in self.schema.columns.items()
            if (message := _broken_rule(column, features, name)) is not None
        ]
        unknown = [name for name in features if name not in self._known]
        faults += [Fault(f"features.{name}", "is not a feature of this model", features[name]) for name in unknown]
        return faults


def digest(row: bytes) -> str:
    """Canonical digest of an encoded row: equal for equal vectors, however they were written."""
    return hashlib.blake2b(row, digest_size=16).hexdigest()


def _refuse_misfits(schema: InputSchema, domains: Mapping[str, Sequence[str] | None]) -> None:
    for name, domain in domains.items():
        column = schema.columns.get(name)
        if column is None:
            raise ContractViolated(f"the MOJO wants column {name!r}, which its input schema does not declare")
        if column.type == "category" and domain is None:
            raise ContractViolated(f"{name!r} is declared as category, but the MOJO was trained on it as a number")
        if column.type == "number" and domain is not None:
            raise ContractViolated(f"{name!r} is declared as number, but the MOJO was trained on it as a category")


def _converter(column: FeatureColumn, domain: Sequence[str] | None) -> Convert:
    missing_allowed = column.missing == "allowed"
    if column.type == "category":
        return _from_text({level: float(code) for code, level in enumerate(domain or ())}, missing_allowed)
    if column.type == "boolean":
        return _from_boolean(*_boolean_codes(domain), missing_allowed)
    low = -LARGEST if column.minimum is None else column.minimum
    high = LARGEST if column.maximum is None else column.maximum
    if column.type == "number":
        return _from_number(low, high, missing_allowed)
    codes = None if domain is None else {level: float(code) for code, level in enumerate(domain)}
    return _from_whole_number(low, high, codes, missing_allowed)


def _boolean_codes(domain: Sequence[str] | None) -> tuple[float, float]:
    if domain is None:
        return 0.0, 1.0
    codes = {level.lower(): float(code) for code, level in enumerate(domain)}
    false, true = (
        next((codes[level] for level in levels if level in codes), math.nan) for levels in (FALSE_LEVELS, TRUE_LEVELS)
    )
    return false, true


def _from_text(codes: Mapping[str, float], missing_allowed: bool) -> Convert:
    nan = math.nan

    def convert(value: Any) -> float:
        if type(value) is str:
            return codes.get(value, nan)
        if value is None and missing_allowed:
            return nan
        raise _Refused

    return convert


def _from_boolean(false: float, true: float, missing_allowed: bool) -> Convert:
    def convert(value: Any) -> float:
        if value is True:
            return true
        if value is False:
            return false
        if value is None and missing_allowed:
            return math.nan
        raise _Refused

    return convert


def _from_number(low: float, high: float, missing_allowed: bool) -> Convert:
    nan = math.nan

    def convert(value: Any) -> float:
        kind = type(value)
        if kind is float or kind is int:
            # False for NaN, the infinities and integers too large for a float64. Adding 0.0 turns -0.0 into 0.0.
            if low <= value <= high:
                return value + 0.0  # type: ignore[no-any-return]
        elif value is None and missing_allowed:
            return nan
        raise _Refused

    return convert


def _from_whole_number(low: float, high: float, codes: Mapping[str, float] | None, missing_allowed: bool) -> Convert:
    nan = math.nan

    def convert(value: Any) -> float:
        kind = type(value)
        if (kind is int or (kind is float and value.is_integer())) and low <= value <= high:
            return value + 0.0 if codes is None else codes.get(str(int(value)), nan)
        if value is None and missing_allowed:
            return nan
        raise _Refused

    return convert


_KINDS = {
    "integer": "must be a whole number",
    "number": "must be a number",
    "category": "must be text",
    "boolean": "must be true or false",
}


def _broken_rule(column: FeatureColumn, features: Mapping[str, Any], name: str) -> str | None:
    value = features.get(name)
    if value is None:
        if column.missing == "allowed":
            return None
        return "must not be null" if name in features else "is missing"
    kind = type(value)
    if column.type == "category":
        return None if kind is str else _KINDS["category"]
    if column.type == "boolean":
        return None if kind is bool else _KINDS["boolean"]
    if kind not in (int, float):
        return _KINDS[column.type]
    if kind is float and not math.isfinite(value):
        return "must be finite"
    if column.type == "integer" and kind is float and not value.is_integer():
        return _KINDS["integer"]
    if column.minimum is not None and value < column.minimum:
        return f"must be at least {column.minimum:g}"
    if column.maximum is not None and value > column.maximum:
        return f"must be at most {column.maximum:g}"
    return None if -LARGEST <= value <= LARGEST else "is too large for a float64"
