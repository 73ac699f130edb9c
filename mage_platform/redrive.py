"""Trying refused rows again, after expectations were mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import connect
from mage_platform.features.ingest import ingest
from mage_platform.features.vector_cache import forget
from mage_platform.features.vectors import build_vectors
from mage_platform.settings import Settings
from mage_platform.sources import load_rows, time_columns
from mage_platform.validation import validate
from mage_platform.validation.quarantine import mark_redriven, waiting_rows


class RedriveReport(Contract):
    """What a re-drive did: `tried == stored + refused`."""

    use_case: str
    tried: int
    stored: int
    refused: int


def redrive(settings: Settings, use_case: UseCase) -> RedriveReport:
    """Validate the waiting rows again, store the vectors of those that pass, and mark them.

    The feature code may look back on other rows, so the passing rows are put beside the source's own rows again;
    only their vectors are written. All or nothing: an error leaves quarantine as it was.

    Raises:
        FeaturesInvalid: A row passes the expectations but its vector breaks the declaration.
    """
    run = f"redrive_{datetime.now(UTC):%Y%m%dT%H%M%S}"
    with connect(settings) as connection:
        waiting = waiting_rows(connection, use_case.name)
        if not waiting:
            return RedriveReport(use_case=use_case.name, tried=0, stored=0, refused=0)
        rows = pd.DataFrame([row for _, row in waiting], index=[number for number, _ in waiting])
        for column in time_columns(use_case):
            rows[column] = pd.to_datetime(rows[column], utc=True, format="ISO8601")
        passed = validate(rows, use_case, run=run).passed
        if len(passed):
            vectors = _vectors_beside_the_source(settings, use_case, passed)
            ingest(connection, use_case, vectors)
            mark_redriven(connection, [int(number) for number in passed.index])
    forget(settings, use_case.name)
    return RedriveReport(use_case=use_case.name, tried=len(rows), stored=len(passed), refused=len(rows) - len(passed))


def _vectors_beside_the_source(settings: Settings, use_case: UseCase, passed: pd.DataFrame) -> pd.DataFrame:
    moments = passed[use_case.event_time]
    source = load_rows(settings, use_case, start=moments.min(), end=moments.max() + pd.Timedelta(microseconds=1))
    source = validate(source, use_case, run="redrive").passed
    key = [*use_case.entity.key, use_case.event_time]
    passed = _as_typed(passed, source)
    twins = pd.MultiIndex.from_frame(source[key]).isin(pd.MultiIndex.from_frame(passed[key]))
    together = pd.concat([source[~twins], passed], ignore_index=True)
    mine = pd.Series(False, index=together.index)
    mine.iloc[-len(passed) :] = True
    return build_vectors(settings, use_case, together, wanted=mine)


def _as_typed(rows: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    """Quarantine keeps JSON; give each column the type it has in the source."""
    typed: dict[Any, pd.Series[Any]] = {}
    for name, column in source.items():
        values = rows[name] if name in rows else pd.Series(None, index=rows.index)
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            typed[name] = pd.to_datetime(values, utc=True, format="ISO8601")
        else:
            typed[name] = values.astype(column.dtype) if column.dtype != bool else values.astype("boolean")
    return pd.DataFrame(typed, index=rows.index)
