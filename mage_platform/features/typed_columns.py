"""Feature vectors as typed columns: out of JSONB in the database, and from there as arrays in binary."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import sql

from mage_platform.contracts import FeatureColumn, InputSchema

# `->>` and a cast is the cheapest way out of JSONB; text stays text, true and false become levels.
_NUMBER = sql.SQL("(v.feature_vector ->> {name})::float8 AS {alias}")
_TEXT = sql.SQL("v.feature_vector ->> {name} AS {alias}")
# JSON knows no NaN, so it can stand for missing; a length of -1 does for text
_NUMBERS = sql.SQL("array_agg(coalesce({alias}, 'NaN'))")
_TEXTS = sql.SQL("array_agg(coalesce(octet_length({alias}), -1)), string_agg({alias}, '')")
_ARRAY_HEADER_BYTES = 20

Numbers = npt.NDArray[Any]


def is_number(column: FeatureColumn) -> bool:
    """Whether a feature becomes float64; the others become text."""
    return column.type in ("integer", "number")


def values(schema: InputSchema) -> sql.Composed:
    """The features taken out of `v.feature_vector`, numbered f0, f1 and so on."""
    return sql.SQL(", ").join(
        (_NUMBER if is_number(column) else _TEXT).format(name=sql.Literal(name), alias=sql.Identifier(f"f{place}"))
        for place, (name, column) in enumerate(schema.columns.items())
    )


def columns(schema: InputSchema) -> sql.Composed:
    """Each of the numbered values as a whole column: an array of numbers, or the lengths of texts and all texts."""
    return sql.SQL(", ").join(
        (_NUMBERS if is_number(column) else _TEXTS).format(alias=sql.Identifier(f"f{place}"))
        for place, column in enumerate(schema.columns.values())
    )


def array_values(data: bytes, kind: str) -> Numbers:
    """A one-dimensional PostgreSQL array in its binary form as native numbers.

    Args:
        data: An array without nulls: a header of 20 bytes, then for each element its length and its value.
        kind: NumPy's name of an element, big endian: `>i4`, `>i8` or `>f8`.
    """
    elements = np.frombuffer(data, [("bytes", ">i4"), ("value", kind)], offset=_ARRAY_HEADER_BYTES)
    return elements["value"].astype(kind.replace(">", "="))


def uuid_values(data: bytes) -> tuple[Numbers, Numbers]:
    """A PostgreSQL array of UUIDs, without nulls, in its binary form: their upper and their lower eight bytes."""
    elements = np.frombuffer(data, [("bytes", ">i4"), ("high", ">u8"), ("low", ">u8")], offset=_ARRAY_HEADER_BYTES)
    return elements["high"].astype("=u8"), elements["low"].astype("=u8")


def text_values(lengths: bytes, texts: bytes | None) -> pa.StringArray:
    """Texts that came as their lengths (-1 for missing) and as one text behind the other."""
    sizes = array_values(lengths, ">i4")
    missing = sizes < 0
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(np.where(missing, 0, sizes), out=offsets[1:])
    valid = pa.array(~missing).buffers()[1] if missing.any() else None
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(texts or b""), valid)
