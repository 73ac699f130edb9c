"""From validated source rows to feature vectors with their labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.entity_ids import entity_ids
from mage_platform.features.schema import conform
from mage_platform.settings import Settings
from mage_platform.use_cases import use_case_function

ENTITY_ID, EVENT_TIME, REGION, LABEL, KNOWN_AT = "_entity_id", "_event_time", "_region", "_label", "_known_at"
"""Columns that travel beside the features; a leading underscore keeps them apart."""


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
        One row a vector: `_entity_id` (str), `_event_time` and `_known_at` (UTC), `_region` (str), `_label` (Int8;
        missing where there is none), and the features in declared order.

    Raises:
        FeaturesInvalid: The features break their declaration, or two rows have the same entity and event time.
        UseCaseInvalid: The feature code is missing, raised, or dropped rows.
    """
    features = _features(settings, use_case, rows)
    for mask in (wanted, rows[use_case.event_time] >= start if start is not None else None):
        if mask is not None:
            rows, features = rows[mask.reindex(rows.index)], features[mask.reindex(features.index)]
    features = conform(features, use_case.input_schema)
    keys = {
        ENTITY_ID: entity_ids(use_case, rows),
        EVENT_TIME: rows[use_case.event_time],
        REGION: rows[use_case.region].astype(str),
        LABEL: _labels(use_case, rows),
        KNOWN_AT: rows[use_case.target.known_at],
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


def _labels(use_case: UseCase, rows: pd.DataFrame) -> pd.Series[Any]:
    """Binary labels as 0 and 1; a label whose moment is unknown counts as none."""
    target = rows[use_case.target.column]
    numbers = pd.to_numeric(target.astype("boolean") if target.dtype == bool else target, errors="coerce")
    wrong = target.notna() & ~numbers.isin([0, 1])
    if wrong.any():
        raise FeaturesInvalid(
            f"target {use_case.target.column}: {target[wrong].iloc[0]!r} is neither 0 nor 1 "
            f"({int(wrong.sum()):,} rows)",
            field=use_case.target.column,
        )
    return numbers.astype("Int8").where(rows[use_case.target.known_at].notna())


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
