"""From a feature vector as JSON gives it to the row of float64 a MOJO scores, or to a list of what is wrong with it.

What a value means is settled here: `true` is not 1, `1` and `1.0` are the same number, `"1"` is not a number, a
category is text, NaN and the infinities are refused, a level the model was not trained on counts as missing (as H2O
does it) unless its column refuses such levels.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import ContractViolated, FeaturesInvalid
from serving.levels import Levels
from serving.row_code import Encode, Unfit, compiled

MOST_UNKNOWN = 1_000
"""Unknown features that are named one by one; a body of nothing else must not keep the event loop busy."""
_one = struct.Struct("=d")
_NAN = _one.pack(math.nan)


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


class Gaps(NamedTuple):
    """Where a row has nothing that the model knows; it scores both alike, as missing.

    Args:
        missing: Features that were null or left out.
        unknown_levels: Features whose level the model was not trained on.
    """

    missing: list[str]
    unknown_levels: list[str]


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
        self.names = tuple(names)
        """Columns of a row, in their order."""
        self._domains = by_name
        self._alone: dict[str, Encode] = {}
        self._nulls = dict.fromkeys(schema.columns)
        self._levels = {
            name: Levels(domain)
            for name, domain in by_name.items()
            if domain is not None and schema.columns[name].unknown == "refused"
        }
        self._encode = compiled(schema.columns, names, by_name)
        self._unpack = struct.Struct(f"={len(names)}d").unpack

    def encode(self, features: Mapping[str, Any]) -> bytes:
        """The row as native float64: missing as NaN, never minus zero.

        Args:
            features: The vector. A feature that may be missing may also be left out.

        Raises:
            VectorRefused: Names every feature that does not fit.
        """
        try:
            return self._encode(features)
        except (Unfit, KeyError):
            try:
                return self._encode({**self._nulls, **features})
            except (Unfit, KeyError):
                raise VectorRefused(self.faults(features)) from None

    def value(self, name: str, value: Any) -> float | None:
        """One value of a feature as a row holds it, NaN when it is missing; None when it is refused."""
        encode = self._alone.get(name)
        if encode is None:
            encode = self._alone[name] = compiled({name: self.schema.columns[name]}, [name], self._domains)
        try:
            (number,) = _one.unpack(encode({name: value}))
        except (Unfit, KeyError):
            return None
        return float(number)

    def gaps(self, features: Mapping[str, Any], row: bytes) -> Gaps:
        """Where the row of a vector has nothing that the model knows.

        Args:
            features: The vector.
            row: What `encode` made of it. Ask `has_gaps` of it first: most have none.
        """
        gaps = Gaps([], [])
        for name, value in zip(self.names, self._unpack(row), strict=True):
            if value != value:
                (gaps.missing if features.get(name) is None else gaps.unknown_levels).append(name)
        return gaps

    def faults(self, features: Mapping[str, Any]) -> list[Fault]:
        """Everything that is wrong with a vector, in the order of the schema; unknown features last."""
        columns = self.schema.columns
        faults = [
            Fault(f"features.{name}", message, features.get(name))
            for name, column in columns.items()
            if (message := _broken_rule(column, features, name, self._levels.get(name))) is not None
        ]
        unknown = [name for name in features if name not in columns]
        listed = unknown[:MOST_UNKNOWN]
        faults += [Fault(f"features.{name}", "is not a feature of this model", features[name]) for name in listed]
        if more := len(unknown) - len(listed):
            faults.append(Fault("features", f"holds {more} more that are no features of this model"))
        return faults


def has_gaps(row: bytes) -> bool:
    """Whether a row may have gaps; now and then true of one that has none, never false of one that has.

    >>> has_gaps(struct.pack("=3d", 1.0, math.nan, 2.0)), has_gaps(struct.pack("=3d", 1.0, -0.5, 2.0))
    (True, False)
    """
    return row.rfind(_NAN) >= 0


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


def _broken_rule(column: FeatureColumn, features: Mapping[str, Any], name: str, levels: Levels | None) -> str | None:
    value = features.get(name)
    rule = column.broken_rule(value)
    if rule is not None:
        return rule if name in features else "is missing"
    return None if levels is None or value is None or value in levels else levels.rule(value)
