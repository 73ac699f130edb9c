"""Source rows, as the use case declares where they come from."""

from __future__ import annotations

from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.errors import SourceInvalid
from mage_platform.settings import Settings
from mage_platform.sources.files import read_file
from mage_platform.sources.moments import as_moments
from mage_platform.sources.queries import read_query
from mage_platform.use_cases import use_case_function

__all__ = ["load_rows", "read_file", "read_query", "read_source", "time_columns", "with_moments"]


def load_rows(
    settings: Settings,
    use_case: UseCase,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    file: Path | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Rows of the source, with the days of history before `start` that the feature code looks back on.

    Args:
        settings: Where use cases lie.
        use_case: Whose source.
        start: First event time wanted, with time zone; None from the beginning.
        end: First event time no longer wanted, with time zone; None to the end.
        file: A parquet or CSV file to read in place of the declared source.
        limit: Read at most so many rows of a file or a query, before the window is applied; None reads all.

    Returns:
        One row a source row, with a fresh 0..n-1 index. Times of event and label are in UTC.

    Raises:
        SourceInvalid: The file is missing or unreadable, the query failed, a declared column is missing, or a time
            has no time zone and `source.time_zone` names none.
        SettingsInvalid: The secret of `source.connection` is missing or no connection string.
        DatabaseUnavailable: The database of a query does not answer.
    """
    first = start - timedelta(days=use_case.source.history_days) if start is not None else None
    rows = read_source(settings, use_case, start=first, end=end, file=file, limit=limit)
    _check_columns(use_case, rows)
    rows = with_moments(use_case, rows)
    if use_case.source.function is None or file is not None:
        rows = _within(rows, use_case.event_time, first, end)
    return rows.reset_index(drop=True)


def read_source(
    settings: Settings,
    use_case: UseCase,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    file: Path | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Rows as the source gives them, of whatever columns and types. Arguments and errors as in `load_rows`."""
    source, folder = use_case.source, settings.use_cases_folder / use_case.name
    if file is not None or source.file is not None:
        return read_file(file or folder / str(source.file), limit=limit)
    if source.query is not None:
        return read_query(settings, folder / source.query, source.connection, start=start, end=end, limit=limit)
    rows = use_case_function(settings, use_case, str(source.function))(start, end)
    if not isinstance(rows, pd.DataFrame):
        raise SourceInvalid(
            f"use case {use_case.name}: {source.function} returned {type(rows).__name__}, not a DataFrame",
            field="source.function",
        )
    return rows.copy(deep=False)


def with_moments(use_case: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their times of event and label in UTC.

    Raises:
        SourceInvalid: See `load_rows`.
    """
    source = use_case.source
    moments = {
        column: as_moments(rows[column], source.time_zone, source.file or source.query or str(source.function))
        for column in time_columns(use_case)
    }
    return rows.assign(**moments)


def time_columns(use_case: UseCase) -> list[str]:
    """Columns that hold moments: event time, and when the label became known."""
    return list(dict.fromkeys([use_case.event_time, use_case.target.known_at or use_case.event_time]))


def _check_columns(use_case: UseCase, rows: pd.DataFrame) -> None:
    wanted = [*use_case.entity.key, use_case.region, use_case.target.column, *time_columns(use_case)]
    missing = [column for column in dict.fromkeys(wanted) if column is not None and column not in rows]
    if missing:
        names = list(map(str, rows.columns))
        near = get_close_matches(missing[0], names, n=1)
        raise SourceInvalid(
            f"use case {use_case.name}: the source has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(names)}{f'. Did you mean {near[0]!r}?' if near else ''}",
            field=missing[0],
        )


def _within(rows: pd.DataFrame, column: str, start: datetime | None, end: datetime | None) -> pd.DataFrame:
    if start is not None:
        rows = rows[rows[column] >= start]
    if end is not None:
        rows = rows[rows[column] < end]
    return rows
