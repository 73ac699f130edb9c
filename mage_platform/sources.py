"""Source rows, as the use case declares where they come from."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.errors import SourceInvalid
from mage_platform.settings import Settings
from mage_platform.use_cases import use_case_function

# CSV has no type for moments: text that is written like one in every row is one.
_MOMENT = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})"


def load_rows(
    settings: Settings,
    use_case: UseCase,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    file: Path | None = None,
) -> pd.DataFrame:
    """Rows of the source, with the days of history before `start` that the feature code looks back on.

    Args:
        settings: Where use cases lie.
        use_case: Whose source.
        start: First event time wanted, with time zone; None from the beginning.
        end: First event time no longer wanted, with time zone; None to the end.
        file: A parquet or CSV file to read in place of the declared source.

    Returns:
        One row a source row, with a fresh 0..n-1 index.

    Raises:
        SourceInvalid: The file is missing or unreadable, a declared column is missing, or a time has no time zone.
    """
    history = timedelta(days=use_case.source.history_days)
    first = start - history if start is not None else None
    if file is None and use_case.source.function is not None:
        rows = use_case_function(settings, use_case, use_case.source.function)(first, end)
        if not isinstance(rows, pd.DataFrame):
            raise SourceInvalid(
                f"use case {use_case.name}: {use_case.source.function} returned {type(rows).__name__}, not a DataFrame"
            )
    else:
        path = file or settings.use_cases_folder / use_case.name / str(use_case.source.file)
        rows = _read_file(path, use_case)
    _check_columns(use_case, rows)
    if file is not None or use_case.source.file is not None:
        rows = _within(rows, use_case.event_time, first, end)
    return rows.reset_index(drop=True)


def time_columns(use_case: UseCase) -> list[str]:
    """Columns that hold moments: event time, and when the label became known."""
    return list(dict.fromkeys([use_case.event_time, use_case.target.known_at or use_case.event_time]))


def _read_file(path: Path, use_case: UseCase) -> pd.DataFrame:
    if not path.is_file():
        raise SourceInvalid(f"the source file {path} does not exist", field="source.file")
    try:
        if path.suffix == ".parquet":
            rows = pd.read_parquet(path)
        elif path.name.endswith((".csv", ".csv.gz", ".csv.zip")):
            rows = pd.read_csv(path)
        else:
            raise SourceInvalid(f"{path.name}: only .parquet and .csv files are read", field="source.file")
    except (ValueError, OSError) as error:
        raise SourceInvalid(f"{path} cannot be read: {error}", field="source.file") from error
    for column in rows.select_dtypes(object).columns:
        values: pd.Series[str] = rows[column].dropna().map(str)
        if column in time_columns(use_case):
            _refuse_naive(values, path)
        elif not len(values) or not values.str.fullmatch(_MOMENT).all():
            continue
        rows[column] = _as_moments(rows[column], path)
    return rows


def _refuse_naive(values: pd.Series[str], path: Path) -> None:
    naive = values[~values.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$")]
    if len(naive):
        raise SourceInvalid(
            f"{path.name}: {values.name} holds {naive.iloc[0]!r} (row {naive.index[0]}), a time without a time "
            "zone: write it as 2013-01-31T15:00:00Z",
            field=str(values.name),
        )


def _as_moments(column: pd.Series[str], path: Path) -> pd.Series[pd.Timestamp]:
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except ValueError as error:
        raise SourceInvalid(f"{path.name}: {column.name} holds a time that cannot be read: {error}") from None


def _check_columns(use_case: UseCase, rows: pd.DataFrame) -> None:
    wanted = [*use_case.entity.key, use_case.region, use_case.target.column, *time_columns(use_case)]
    missing = [column for column in dict.fromkeys(wanted) if column is not None and column not in rows]
    if missing:
        raise SourceInvalid(
            f"use case {use_case.name}: the source has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(str, rows.columns))}",
            field=missing[0],
        )
    for column in time_columns(use_case):
        if not isinstance(rows[column].dtype, pd.DatetimeTZDtype):
            raise SourceInvalid(
                f"use case {use_case.name}: {column} has type {rows[column].dtype}, but must hold times with a "
                "time zone",
                field=column,
            )


def _within(rows: pd.DataFrame, column: str, start: datetime | None, end: datetime | None) -> pd.DataFrame:
    if start is not None:
        rows = rows[rows[column] >= start]
    if end is not None:
        rows = rows[rows[column] < end]
    return rows
