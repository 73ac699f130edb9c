"""Times of a source: with a zone of their own, or meant in the zone the use case names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from mage_platform.errors import SourceInvalid

_DAY, _CLOCK, _ZONE = (
    r"\d{4}-\d{2}-\d{2}",
    r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?",
    r"(?: ?(?:Z|[+-]\d{2}(?::?\d{2})?))",
)
_ZONED, _ISO = rf"{_DAY}{_CLOCK}{_ZONE}", rf"{_DAY}(?:{_CLOCK}{_ZONE}?)?"


def zoned_text(column: pd.Series[Any]) -> bool:
    """Whether every value that is not missing is text of a time with a zone."""
    return _all_match(column, _ZONED)


def dated_text(column: pd.Series[Any]) -> bool:
    """Whether every value that is not missing is, or is the text of, a day or a time, with a zone or without."""
    return _all_match(column, _ISO)


def as_moments(column: pd.Series[Any], zone: str | None, where: str) -> pd.Series[Any]:
    """Times in UTC. What carries no zone is meant in `zone`; a day without a clock is its midnight there.

    Where clocks are put back an hour comes twice, and where they are put forward one is missing. Both are read with
    standard time, the later of the two readings, as PostgreSQL does.

    Args:
        column: Datetimes with or without zone, dates, or ISO 8601 text of them, also mixed.
        zone: IANA name; None refuses what carries none.
        where: Names the source in errors.

    Raises:
        SourceInvalid: A value is no time, or has no zone and `zone` is None; names it and its row.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        converted: pd.Series[Any] = column.dt.tz_convert("UTC")
        return converted
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return _in_zone(column, zone, where)
    present: pd.Series[str] = column.dropna().map(str)
    wrong = ~present.str.fullmatch(_ISO).reindex(column.index, fill_value=True)
    if wrong.any():
        raise SourceInvalid(
            f"{where}: {column.name} holds {column[wrong].iloc[0]!r} (row {wrong.idxmax()}), which is not a time: "
            f"write 2013-01-31T15:00:00Z ({int(wrong.sum()):,} of {len(column):,} rows)",
            field=str(column.name),
        )
    naive = ~present.str.fullmatch(_ZONED)
    try:
        moments: pd.Series[Any] = pd.to_datetime(
            present[~naive].reindex(column.index).astype(object), utc=True, format="ISO8601"
        )
        if naive.any():
            local: pd.Series[Any] = pd.to_datetime(present[naive], format="ISO8601")
            moments.update(_in_zone(local, zone, where).astype(moments.dtype))
    except ValueError as error:
        raise SourceInvalid(
            f"{where}: {column.name} holds a time that cannot be read: {str(error).splitlines()[0]}",
            field=str(column.name),
        ) from None
    return moments


def _in_zone(local: pd.Series[Any], zone: str | None, where: str) -> pd.Series[Any]:
    if zone is None:
        present = local.dropna()
        if len(present):
            raise SourceInvalid(
                f"{where}: {local.name} holds '{present.iloc[0]}' (row {present.index[0]}), a time without a time "
                "zone: write it as 2013-01-31T15:00:00Z, or name in source.time_zone the zone they are meant in",
                field=str(local.name),
            )
        unknown: pd.Series[Any] = local.dt.tz_localize("UTC")
        return unknown
    moments: pd.Series[Any] = local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC").copy()
    odd = local.notna() & moments.isna()
    if odd.any():
        moments[odd] = [_later_reading(each, ZoneInfo(zone)) for each in local[odd]]
    return moments


def _later_reading(local: pd.Timestamp, zone: ZoneInfo) -> pd.Timestamp:
    readings = [local.to_pydatetime().replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    latest: datetime = max(readings)
    return pd.Timestamp(latest)


def _all_match(column: pd.Series[Any], pattern: str) -> bool:
    # what does not look so at first is not looked at whole
    present = column.dropna()
    for part in (present.iloc[:100], present):
        if not len(part) or not part.map(str).str.fullmatch(pattern).all():
            return False
    return True
