"""Feature vectors as lines of COPY's text format.

Values become JSON a column at a time, and Arrow puts the columns together: no Python object is made for a value, so a
vector of a dozen features costs about two microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, KNOWN_AT, LABEL, REGION

ROWS_A_WRITE, BYTES_A_WRITE = 10_000, 64 << 20
"""At most so much is in memory as text."""
MISSING = r"\N"
_COMMA = ord(",")
_LONGEST_ESCAPE, _LONGEST_OTHER_VALUE = 7, 64
_ESCAPED = r'[\x00-\x1f"\\]'
"""Characters that JSON or COPY write in another way."""
_Columns = list[pa.StringArray | str]


def staged_lines(vectors: pd.DataFrame, names: Sequence[str]) -> Iterator[bytes]:
    """Vectors with their labels, some thousand at a time."""
    for part in _parts(vectors):
        yield _lines([*_keys(part), "\t", *_features(part, names), "\t", *_labels(part), "\n"])


def feature_lines(vectors: pd.DataFrame, names: Sequence[str], use_case: str) -> Iterator[bytes]:
    """Vectors alone, with their use case."""
    for part in _parts(vectors):
        yield _lines([*_keys(part), "\t", *_features(part, names), f"\t{use_case}\n"])


def label_lines(vectors: pd.DataFrame, use_case: str) -> Iterator[bytes]:
    """Labels alone, with their use case; vectors without one leave no line."""
    for part in _parts(vectors[vectors[LABEL].notna()]):
        yield _lines([*_keys(part), "\t", *_labels(part), f"\t{use_case}\n"])


def in_key_order(vectors: pd.DataFrame) -> pd.DataFrame:
    """The vectors by entity, as the primary key has them, those of one entity in the order they came.

    Written in this order the key's B-tree grows at its right edge, the vectors of an entity share pages, and two
    writers take locks in the same order. The first eight digits of the id decide, which is near enough.
    """
    if not len(vectors):
        return vectors
    digits = np.array(vectors[ENTITY_ID].to_numpy(), dtype="S8").view(">u8").astype(np.uint64)
    return vectors.iloc[np.argsort(digits, kind="stable")]


def _parts(vectors: pd.DataFrame) -> Iterator[pd.DataFrame]:
    texts = [name for name in vectors if vectors[name].dtype == object and name != ENTITY_ID]
    longest = sum(
        max((len(text) for text in vectors[name].unique() if isinstance(text, str)), default=0) for name in texts
    )
    line = longest * _LONGEST_ESCAPE + sum(len(str(name)) + _LONGEST_OTHER_VALUE for name in vectors)
    rows = max(1, min(ROWS_A_WRITE, BYTES_A_WRITE // line))
    for first in range(0, len(vectors), rows):
        yield vectors.iloc[first : first + rows]


def _lines(columns: _Columns) -> bytes:
    """Columns, and what stands between them in every line, one line behind the other."""
    lines = pc.binary_join_element_wise(*columns, "")
    end = np.frombuffer(lines.buffers()[1], np.int32)[len(lines)]
    return memoryview(lines.buffers()[2])[:end].tobytes()


def _keys(part: pd.DataFrame) -> _Columns:
    return [
        pa.array(part[ENTITY_ID], pa.string()),
        "\t",
        _moments(part[EVENT_TIME]),
        "\t",
        _texts(part[REGION], quote=""),
    ]


def _labels(part: pd.DataFrame) -> _Columns:
    """When each label became known, and the label; both missing where there is none."""
    labels = _json(part[LABEL], MISSING)
    known = pc.if_else(pa.array(part[LABEL].notna()), _moments(part[KNOWN_AT]), MISSING)
    return [known.fill_null(MISSING), "\t", labels]


def _features(part: pd.DataFrame, names: Sequence[str]) -> _Columns:
    columns: _Columns = []
    for place, name in enumerate(names):
        columns += [f"{',' if place else '{'}{_escape(orjson.dumps(name).decode())}:", _json(part[name], "null")]
    return [*columns, "}"]


def _moments(column: pd.Series[Any]) -> pa.StringArray:
    """UTC with microseconds, as PostgreSQL keeps it."""
    moments = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return pc.binary_join_element_wise(pa.array(moments).cast(pa.string()), "Z", "")


def _json(column: pd.Series[Any], missing: str) -> pa.StringArray:
    if column.dtype == object:
        values = _texts(column, quote='"')
    elif column.dtype == np.float64:
        values = _floats(column.to_numpy())
    else:
        values = pa.array(column, from_pandas=True).cast(pa.string())
    return values.fill_null(missing)


def _floats(numbers: npt.NDArray[np.float64]) -> pa.StringArray:
    """Floats as JSON, null for NaN: dumped as one list and cut at its commas, since none of them holds one."""
    if not len(numbers):
        return pa.array([], pa.string())
    dumped = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    text = np.frombuffer(dumped, np.uint8)[1:-1]
    commas = np.flatnonzero(text == _COMMA)
    text = text[text != _COMMA]
    offsets = np.empty(len(numbers) + 1, np.int32)
    offsets[0], offsets[1:-1], offsets[-1] = 0, commas - np.arange(len(commas)), len(text)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def _texts(column: pd.Series[Any], quote: str) -> pa.StringArray:
    """Text as JSON with its quotes, or without any; missing stays missing."""
    coded = pa.array(column, pa.string()).dictionary_encode()
    levels = coded.dictionary
    if pc.any(pc.match_substring_regex(levels, _ESCAPED)).as_py():
        levels = pa.array([_escape(orjson.dumps(text).decode() if quote else text) for text in levels.to_pylist()])
    elif quote:
        levels = pc.binary_join_element_wise(quote, levels, quote, "")
    return levels.take(coded.indices)


def _escape(text: str) -> str:
    """COPY's own escapes.

    >>> _escape("back" + chr(92) + "slash and" + chr(9) + "tab") == r"back\\\\slash and\\ttab"
    True
    """
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
