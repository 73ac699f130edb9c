"""What a frame of vectors must keep before it may enter the feature store; whatever breaks it is named and counted."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import numpy as np
import orjson
import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.schema import conform
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, KNOWN_AT, LABEL, REGION

MAXIMUM_VECTOR_BYTES = 1 << 20
"""Most bytes one vector may have as JSON: 1 MiB."""
_REGION = re.compile(r"[^\x00-\x1f/]{1,100}")
_LONGEST_NUMBER, _LONGEST_ESCAPE = 25, 6


def admitted(use_case: UseCase, vectors: pd.DataFrame) -> pd.DataFrame:
    """The vectors with one type a column, all of them keeping the contract.

    Raises:
        FeaturesInvalid: Names the field, the first value that breaks a rule, and how many do.
    """
    names = use_case.input_schema.names
    absent = [name for name in (ENTITY_ID, EVENT_TIME, REGION, LABEL, KNOWN_AT) if name not in vectors]
    if absent:
        raise FeaturesInvalid(f"the vectors have no column {absent[0]}: make them by build_vectors", field=absent[0])
    keys = {
        ENTITY_ID: _entity_ids(vectors[ENTITY_ID]),
        EVENT_TIME: _moments(vectors[EVENT_TIME], "event_time"),
        REGION: _regions(vectors[REGION]),
        LABEL: _labels(use_case, vectors[LABEL]),
        KNOWN_AT: _moments(vectors[KNOWN_AT], "known_at"),
    }
    _refuse("event_time", vectors, keys[EVENT_TIME].isna(), EVENT_TIME, "is missing")
    unknown = keys[LABEL].notna() & keys[KNOWN_AT].isna()
    _refuse("known_at", vectors, unknown, KNOWN_AT, "is missing beside a label")
    features = conform(vectors.drop(columns=list(keys)), use_case.input_schema)
    frame = pd.concat([pd.DataFrame(keys, index=vectors.index), features], axis=1)
    _refuse_oversize(frame, names)
    return frame


def _entity_ids(column: pd.Series[Any]) -> pd.Series[Any]:
    absent = column.isna()
    if absent.any() or pd.api.types.infer_dtype(column, skipna=True) not in ("string", "empty"):
        wrong = absent | ~column.map(lambda value: isinstance(value, str))
        _refuse("entity_id", column.to_frame(), wrong, column.name, "is not the text of a UUID")
    return column


def _moments(column: pd.Series[Any], field: str) -> pd.Series[Any]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column
    naive = column.notna() & column.map(lambda value: getattr(value, "tzinfo", None) is None).astype(bool)
    _refuse(field, column.to_frame(), naive, column.name, "is not a time with a time zone")
    return pd.to_datetime(column, utc=True)


def _labels(use_case: UseCase, column: pd.Series[Any]) -> pd.Series[Any]:
    kind = use_case.target.kind
    if kind == "multiclass":
        text = column.astype(object).where(column.notna(), None)
        wrong = text.notna() & ~text.map(lambda value: isinstance(value, str))
        _refuse("label", column.to_frame(), wrong, column.name, "is not the name of a class")
        return text
    numbers = pd.to_numeric(column)
    if kind == "regression":
        _refuse("label", column.to_frame(), numbers.abs() == np.inf, column.name, "is infinite")
        return numbers.astype("float64")
    _refuse("label", column.to_frame(), column.notna() & ~numbers.isin([0, 1]), column.name, "is neither 0 nor 1")
    return numbers.astype("Int8")


def _regions(column: pd.Series[Any]) -> pd.Series[Any]:
    text = column.astype(object)
    bad = [value for value in text.unique() if not (isinstance(value, str) and _REGION.fullmatch(value))]
    wrong = text.isin(bad) if bad else pd.Series(False, column.index)
    rule = "is no region: text of 1 to 100 characters, without control characters (NUL among them) or slashes"
    _refuse("region", column.to_frame(), wrong, column.name, rule)
    return text


def _refuse_oversize(frame: pd.DataFrame, names: list[str]) -> None:
    texts = [name for name in names if frame[name].dtype == object]
    others = sum(len(name) * _LONGEST_ESCAPE + _LONGEST_NUMBER for name in names)
    # cheap first: only what could be too large with every character escaped is measured
    longest = sum(max((len(text) for text in frame[name].unique() if text is not None), default=0) for name in texts)
    if longest * _LONGEST_ESCAPE + others <= MAXIMUM_VECTOR_BYTES:
        return
    lengths = sum((frame[name].str.len().fillna(0) for name in texts), pd.Series(0.0, frame.index))
    suspects = frame.loc[lengths * _LONGEST_ESCAPE + others > MAXIMUM_VECTOR_BYTES, names]
    objects = suspects.astype(object).where(suspects.notna(), None).to_dict("records")
    sizes = pd.Series([len(orjson.dumps(each)) for each in objects], suspects.index, dtype="int64")
    large = sizes[sizes > MAXIMUM_VECTOR_BYTES]
    if len(large):
        entity = frame.loc[large.index[0], ENTITY_ID]
        raise FeaturesInvalid(
            f"the vector of entity {entity} has {large.iloc[0]:,} bytes, and at most {MAXIMUM_VECTOR_BYTES:,} are "
            f"stored ({len(large):,} of {len(frame):,} vectors). Shorten its text in the feature code",
            field="features",
        )


def _refuse(field: str, frame: pd.DataFrame, wrong: pd.Series[bool], column: Any, rule: str) -> None:
    if wrong.any():
        _raise(field, frame[column][wrong].iloc[0], int(wrong.sum()), len(frame), rule)


def _raise(field: str, value: object, count: int, total: int, rule: str) -> NoReturn:
    raise FeaturesInvalid(
        f"{field}: {value!r} {rule} ({count:,} of {total:,} vectors). Mend the source or the feature code, or refuse "
        "the rows by an expectation",
        field=field,
    )
