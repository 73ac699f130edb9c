"""From validated source rows to feature vectors with their labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from mage_platform.contracts import POOLED, UseCase
from mage_platform.contracts.use_case import TRAVEL_BESIDE
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.entity_ids import entity_ids
from mage_platform.features.schema import conform
from mage_platform.settings import Settings
from mage_platform.use_cases import use_case_function

ENTITY_ID, EVENT_TIME, REGION, LABEL, KNOWN_AT = TRAVEL_BESIDE
"""Columns that travel beside the features; a leading underscore keeps them apart."""
ONLY_REGION = "all"
"""The region of a use case that declares none."""


def build_vectors(
    settings: Settings,
    use_case: UseCase,
    rows: pd.DataFrame,
    *,
    start: datetime | None = None,
    wanted: pd.Series[bool] | None = None,
) -> pd.DataFrame:
    """Apply the use case's own feature code and add what identifies and labels each vector.

    Args:
        settings: Where use cases lie.
        use_case: The declaration.
        rows: Validated source rows, with the days of history the feature code looks back on.
        start: Event times before it are history only and leave no vector; None keeps all.
        wanted: Rows that leave a vector, by the index of `rows`; None keeps all.

    Returns:
        One row a vector: `_entity_id` (str), `_event_time` and `_known_at` (UTC), `_region` (str), `_label` (see
        `labels`; missing where there is none or its moment is unknown), and the features in declared order.

    Raises:
        FeaturesInvalid: The features break their declaration, or two rows have the same entity and event time.
        UseCaseInvalid: The feature code is missing, raised, or dropped rows.
    """
    features = _features(settings, use_case, rows)
    for mask in (wanted, rows[use_case.event_time] >= start if start is not None else None):
        if mask is not None:
            rows, features = rows[mask.reindex(rows.index)], features[mask.reindex(features.index)]
    features = conform(features, use_case.input_schema)
    known_at = rows[use_case.target.known_at or use_case.event_time]
    keys = {
        ENTITY_ID: entity_ids(use_case, rows),
        EVENT_TIME: rows[use_case.event_time],
        REGION: _regions(use_case, rows),
        LABEL: labels(use_case, rows).where(known_at.notna()),
        KNOWN_AT: known_at,
    }
    vectors = pd.concat([pd.DataFrame(keys, index=rows.index), features], axis=1)
    _refuse_twins(use_case, vectors)
    return vectors.reset_index(drop=True)


def _features(settings: Settings, use_case: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    if use_case.features.function is None:
        absent = [name for name in use_case.features.columns if name not in rows]
        if absent:
            raise FeaturesInvalid(
                f"the source has no column {absent[0]!r}; it has {', '.join(map(str, rows.columns))}",
                field=f"features.{absent[0]}",
            )
        return rows[list(use_case.features.columns)]
    features = use_case_function(settings, use_case, use_case.features.function)(rows)
    if not isinstance(features, pd.DataFrame) or not features.index.equals(rows.index):
        raise FeaturesInvalid(
            f"use case {use_case.name}: {use_case.features.function} must return a DataFrame with the index of its "
            f"rows ({len(rows):,} rows)",
            field="features.function",
        )
    return features


def _regions(use_case: UseCase, rows: pd.DataFrame) -> pd.Series[Any]:
    if use_case.region is None:
        return pd.Series(ONLY_REGION, index=rows.index)
    regions = rows[use_case.region].astype(str)
    if (pooled := regions == POOLED).any():
        raise FeaturesInvalid(
            f"region {use_case.region}: {POOLED!r} stands for all regions together and names none "
            f"({int(pooled.sum()):,} rows). Give these rows another region, or refuse them by an expectation",
            field=use_case.region,
        )
    return regions


def labels(use_case: UseCase, rows: pd.DataFrame) -> pd.Series[Any]:
    """The target as labels are kept: by kind Int8 of 0 and 1, text (object), or float64.

    Raises:
        FeaturesInvalid: A value does not fit the kind; names it and how many do not.
    """
    target, kind = rows[use_case.target.column], use_case.target.kind
    if kind == "regression":
        numbers = pd.to_numeric(target, errors="coerce").astype("float64")
        wrong = target.notna() & ~np.isfinite(numbers)
        _refuse_labels(use_case, target, wrong, "is no finite number, as a regression needs")
        return numbers
    if kind == "multiclass":
        text = _names(target)
        _refuse_labels(use_case, target, text.str.contains("\x00", regex=False, na=False), "holds a NUL character")
        return text
    if use_case.target.positive is not None:
        names = _names(target)
        positive = names == str(use_case.target.positive)
        others = names[target.notna() & ~positive].unique()
        if len(others) > 1:
            wrong = target.notna() & ~positive & (names != others[0])
            _refuse_labels(
                use_case, target, wrong, f"is a third class beside {use_case.target.positive!r} and {others[0]!r}"
            )
        return positive.astype("Int8").where(target.notna())
    numbers = pd.to_numeric(target.astype("boolean") if target.dtype == bool else target, errors="coerce")
    wrong = target.notna() & ~numbers.isin([0, 1])
    _refuse_labels(use_case, target, wrong, "is neither 0 nor 1; name the value that counts as 1 in target.positive")
    return numbers.astype("Int8")


def _names(target: pd.Series[Any]) -> pd.Series[Any]:
    """Classes by name; 2.0 is 2, because integers with gaps come as floats."""
    whole = target.astype("Int64") if pd.api.types.is_float_dtype(target) and _all_whole(target) else target
    return whole.astype(object).where(target.notna(), None).map(str, na_action="ignore")


def _all_whole(column: pd.Series[Any]) -> bool:
    present = column.dropna()
    return bool((present == present.round()).all() and np.isfinite(present).all())


def _refuse_labels(use_case: UseCase, target: pd.Series[Any], wrong: pd.Series[bool], rule: str) -> None:
    if wrong.any():
        column = use_case.target.column
        raise FeaturesInvalid(
            f"target {column}: {target[wrong].iloc[0]!r} {rule} ({int(wrong.sum()):,} rows)", field=column
        )


def _refuse_twins(use_case: UseCase, vectors: pd.DataFrame) -> None:
    twins = vectors.duplicated([ENTITY_ID, EVENT_TIME])
    if twins.any():
        first = vectors[twins].iloc[0]
        raise FeaturesInvalid(
            f"{int(twins.sum()):,} rows share entity and event time with another, the first is entity "
            f"{first[ENTITY_ID]} at {first[EVENT_TIME].isoformat()}: the key {use_case.entity.key} does not identify "
            "an entity, or the source repeats rows (expect_compound_columns_to_be_unique refuses them)",
            field="entity.key",
        )
