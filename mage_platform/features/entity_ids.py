"""Entity ids of a whole table of rows, the same as `entity_id_of` gives one by one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.contracts.features import ENTITY_NAMESPACE, canonical_text
from mage_platform.errors import FeaturesInvalid

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The two uppermost bits of a UUID's ninth byte are 10."""


def entity_ids(use_case: UseCase, rows: pd.DataFrame) -> list[str]:
    """UUIDv5 of each row's natural key.

    Raises:
        FeaturesInvalid: A part of a key is missing, a time without time zone, or text with a NUL character.
    """
    columns = [_json_texts(rows[column]) for column in use_case.entity.key]
    template = "[" + json.dumps(use_case.name).replace("%", "%%") + ",%s" * len(columns) + "]"
    return [_uuid5(template % parts) for parts in zip(*columns, strict=True)]


def _uuid5(name: str) -> str:
    """RFC 9562, 5.5: SHA-1 of namespace and name, with version and variant written over."""
    digits = hashlib.sha1(ENTITY_NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"


def _json_texts(column: pd.Series[Any]) -> list[str]:
    """Each value in its canonical form, as JSON; equal values are written once."""
    absent = column.isna()
    if absent.any():
        raise FeaturesInvalid(
            f"{int(absent.sum()):,} rows have no {column.name}, which is part of the entity's key: "
            "refuse them by expect_column_values_to_not_be_null",
            field=f"entity.{column.name}",
        )
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=False) != "string":
        return [_json_text(value, column) for value in column]  # 1 and True are equal, and no two ways of writing one
    codes, levels = pd.factorize(column)
    texts = [_json_text(value, column) for value in _python_values(levels)]
    return list(np.array(texts, dtype=object)[codes])


def _python_values(levels: Any) -> list[Any]:
    if isinstance(levels, pd.DatetimeIndex):
        return [moment.to_pydatetime(warn=False) for moment in levels]
    return list(levels.tolist())


def _json_text(value: Any, column: pd.Series[Any]) -> str:
    try:
        text = canonical_text(value)
    except ValueError as error:
        raise FeaturesInvalid(
            f"{column.name}: {error} (of {len(column):,} rows)", field=f"entity.{column.name}"
        ) from None
    if "\x00" in text:
        count = int(column.map(lambda each: "\x00" in str(each)).sum())
        raise FeaturesInvalid(
            f"{column.name}: {text!r} holds a NUL character, and is part of the entity's key ({count:,} of "
            f"{len(column):,} rows): refuse them by an expectation",
            field=f"entity.{column.name}",
        )
    return json.dumps(text, ensure_ascii=False)
