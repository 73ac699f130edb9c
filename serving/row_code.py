"""The code that turns one model's feature vectors into rows, written for that model when it is loaded.

A loop over converters spends most of its time on calling them. So the checks of all columns are written one after the
other into one function, which is compiled once; it takes about half as long. Nothing of a schema becomes part of that
text but places, bounds as numbers, and the kind of a column: names and levels stay values.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from types import CodeType
from typing import Any

from mage_platform.contracts import FeatureColumn

LARGEST = sys.float_info.max
TRUE_LEVELS = ("true", "1")
FALSE_LEVELS = ("false", "0")
Encode = Callable[[Mapping[str, Any]], bytes]


class Unfit(Exception):  # a signal, never seen outside of the encoder
    """A vector does not keep the schema."""


def compiled(
    columns: Mapping[str, FeatureColumn], names: Sequence[str], domains: Mapping[str, Sequence[str] | None]
) -> Encode:
    """A function that encodes vectors in which every column is present, null where it is missing.

    Args:
        columns: All columns of the schema. Those the MOJO does not have are checked like the others, then left out.
        names: Columns of the MOJO, in its own order.
        domains: Of each of them the levels in the order of their codes, or None for a number.

    Returns:
        Vector to native float64, missing as NaN, never minus zero. Raises `Unfit` or `KeyError` for a vector that does
        not keep the schema.
    """
    place = {name: f"v{number}" for number, name in enumerate(columns)}
    values: dict[str, Any] = {
        "Unfit": Unfit, "nan": math.nan, "pack": struct.Struct(f"={len(names)}d").pack, "get": itemgetter(*columns),
        "inf": math.inf, "float": float, "int": int, "str": str, "type": type,
    }  # fmt: skip
    lines = [f"    if len(vector) != {len(columns)}: raise Unfit"]
    lines.append(f"    {', '.join(place.values())} = get(vector)" if len(columns) > 1 else "    v0 = get(vector)")
    for name, column in columns.items():
        codes = f"codes_{place[name]}"
        domain = domains.get(name)
        if column.type == "category" or domain is not None:
            values[codes] = {level: float(code) for code, level in enumerate(domain or ())}
        checks_levels = name in domains and column.unknown == "refused"
        lines += [f"    {line}" for line in _column(column, place[name], codes, domain, checks_levels)]
    lines.append(f"    return pack({', '.join(place[name] for name in names)})")
    # As defaults of parameters the values are at hand without a look into the module.
    head = f"def encode(vector, {', '.join(f'{name}={name}' for name in values)}):"
    exec(_compile("\n".join([head, *lines])), values)
    encode: Encode = values["encode"]
    return encode


@lru_cache(maxsize=256)
def _compile(source: str) -> CodeType:
    """The models of all regions of a use case have the same text."""
    return compile(source, "<row encoder>", "exec")


def _column(
    column: FeatureColumn, at: str, codes: str, domain: Sequence[str] | None, checks_levels: bool
) -> Iterator[str]:
    """The lines that check one column and leave its code or number in its place."""
    if column.type == "category":
        yield f"if type({at}) is str: {at} = {codes}" + (f"[{at}]" if checks_levels else f".get({at}, nan)")
    elif column.type == "boolean":
        false, true = _boolean_codes(domain)
        yield f"if {at} is True: {at} = {true!r}"
        yield f"elif {at} is False: {at} = {false!r}"
    else:
        low = -LARGEST if column.minimum is None else max(column.minimum, -LARGEST)
        high = LARGEST if column.maximum is None else min(column.maximum, LARGEST)
        whole = column.type == "integer"
        code = f"{codes}.get(str(int({at})), nan)" if whole and domain is not None else None
        # Both are false for NaN, the infinities and integers too large for a float64.
        integer = f"if type({at}) is int and {_bound(low)} <= {at} <= {_bound(high)}: {at} = {code or at}"
        # Adding 0.0 turns -0.0 into 0.0.
        decimal = f"if type({at}) is float and {low!r} <= {at} <= {high!r}"
        decimal += (f" and {at}.is_integer()" if whole else "") + f": {at} = {code or f'{at} + 0.0'}"
        first, second = (integer, decimal) if whole else (decimal, integer)
        yield first
        yield f"el{second}"
    if column.missing == "allowed":
        yield f"elif {at} is None: {at} = nan"
    yield "else: raise Unfit"


def _bound(value: float) -> str:
    """As an integer is quickest compared with."""
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)


def _boolean_codes(domain: Sequence[str] | None) -> tuple[float, float]:
    if domain is None:
        return 0.0, 1.0
    codes = {level.lower(): float(code) for code, level in enumerate(domain)}
    false, true = (
        next((codes[level] for level in levels if level in codes), math.nan) for levels in (FALSE_LEVELS, TRUE_LEVELS)
    )
    return false, true
