"""Feature vectors as lines of COPY's text format.

Values are turned into JSON column by column, and one template puts the columns together line by line: a few
microseconds a vector, however many features it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pandas as pd

from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, KNOWN_AT, LABEL, REGION

ROWS_A_WRITE = 4_000
MISSING = r"\N"


class Row(NamedTuple):
    """What stands in one line, in this order."""

    entity_id: str
    event_time: str
    region: str
    feature_vector: str
    known_at: str
    label: str


def staged_lines(vectors: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """Vectors with their labels, some thousand at a time so that memory stays bounded."""
    template = _template("%s\t%s\t%s\t", names, "\t%s\t%s\n")
    for part in _parts(vectors):
        yield "".join(map(template.__mod__, zip(*_keys(part), *_features(part, names), *_labels(part), strict=True)))


def feature_lines(vectors: pd.DataFrame, names: Sequence[str], use_case: str) -> Iterator[str]:
    """Vectors alone, with their use case."""
    template = _template("%s\t%s\t%s\t", names, f"\t{use_case}\n")
    for part in _parts(vectors):
        yield "".join(map(template.__mod__, zip(*_keys(part), *_features(part, names), strict=True)))


def label_lines(vectors: pd.DataFrame, use_case: str) -> Iterator[str]:
    """Labels alone, with their use case; vectors without one leave no line."""
    template = f"%s\t%s\t%s\t%s\t%s\t{use_case}\n"
    for part in _parts(vectors[vectors[LABEL].notna()]):
        yield "".join(map(template.__mod__, zip(*_keys(part), *_labels(part), strict=True)))


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
    for first in range(0, len(vectors), ROWS_A_WRITE):
        yield vectors.iloc[first : first + ROWS_A_WRITE]


def _template(before: str, names: Sequence[str], after: str) -> str:
    """The line with `%s` where a value goes.

    >>> _template("%s ", ["a%", "b"], " %s")
    '%s {"a%%":%s,"b":%s} %s'
    """
    keys = [_escape(orjson.dumps(name).decode()).replace("%", "%%") for name in names]
    return f"{before}{{{','.join(f'{key}:%s' for key in keys)}}}{after}"


def _keys(part: pd.DataFrame) -> list[list[str]]:
    regions = {region: _escape(region) for region in part[REGION].unique()}
    return [part[ENTITY_ID].tolist(), _moments(part[EVENT_TIME]), [regions[each] for each in part[REGION]]]


def _labels(part: pd.DataFrame) -> list[list[str]]:
    """When each label became known, and the label; both missing where there is none."""
    column = part[LABEL]
    written = _texts(column) if column.dtype == object else _numbers(column)
    labels = [MISSING if text == "null" else text for text in written]
    known = [
        MISSING if label == MISSING else moment for label, moment in zip(labels, _moments(part[KNOWN_AT]), strict=True)
    ]
    return [known, labels]


def _features(part: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    return [_texts(part[name]) if part[name].dtype == object else _numbers(part[name]) for name in names]


def _moments(column: pd.Series[Any]) -> list[str]:
    """UTC with microseconds, as PostgreSQL keeps it."""
    moments = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    written, codes = np.unique(moments, return_inverse=True)
    texts = np.char.add(np.datetime_as_string(written), "Z").astype(object)
    return list(texts[codes])


def _numbers(column: pd.Series[Any]) -> list[str]:
    """Numbers and truth values as JSON; a whole column is dumped at once, since none of them holds a comma."""
    missing = isinstance(column.dtype, pd.api.extensions.ExtensionDtype) and column.isna().any()
    if missing:
        dumped = orjson.dumps(column.astype(object).where(column.notna(), None).tolist())
    else:
        dumped = orjson.dumps(np.ascontiguousarray(_plain(column)), option=orjson.OPT_SERIALIZE_NUMPY)
    return dumped[1:-1].decode().split(",") if len(column) else []


def _plain(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    kinds = {"boolean": "bool", "Int64": "int64", "Int8": "int8"}
    return column.to_numpy(dtype=kinds.get(str(column.dtype)))


def _texts(column: pd.Series[Any]) -> list[str]:
    """Text as JSON; None is null."""
    values = column.tolist()
    known = {value: _escape(orjson.dumps(value).decode()) for value in set(values)}
    return [known[value] for value in values]


def _escape(text: str) -> str:
    """COPY's own escapes.

    >>> _escape("back" + chr(92) + "slash and" + chr(9) + "tab") == r"back\\\\slash and\\ttab"
    True
    """
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
