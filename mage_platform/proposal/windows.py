"""The four spans of training, by quantiles of event time, on the borders of days where that is possible."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd

from mage_platform.contracts import TargetKind
from mage_platform.errors import SourceInvalid

_SHARES = ((0.60, 0.75, 0.85), (0.60, 0.80, 0.80), (0.50, 0.75, 0.75))
"""Shares of the rows before train_until, validate_until and blend_until; without a blending part where rows are few."""
_UNITS = ("D", "h", "min", "s")
_ROWS_FOR_BLENDING = 400
FIELDS = ("train_until", "validate_until", "blend_until", "test_until")


def propose_window(
    moments: pd.Series[Any],
    labels: pd.Series[Any],
    regions: pd.Series[Any],
    kind: TargetKind,
    *,
    zone: str | None,
    known: pd.Series[Any],
) -> tuple[dict[str, datetime], dict[str, int], list[str]]:
    """Borders of the spans, their rows, and what is not as it should be.

    Args:
        moments: Event times of the labelled rows, with time zone.
        labels: Of the same rows.
        regions: Of the same rows.
        kind: Of the target.
        zone: In whose days the borders lie; None for UTC.
        known: When each label became known.

    Raises:
        SourceInvalid: There are fewer than three different event times.
    """
    local = moments.dt.tz_convert(zone or "UTC")
    if local.nunique() < 3:
        raise SourceInvalid(
            f"{moments.name} has {local.nunique()} different times in the labelled rows, and training, validation and "
            "test need one each at least: choose another column by --event-time, or a table over more time",
            field="event_time",
        )
    fewest = int(regions.value_counts().min())
    shares = _SHARES if fewest >= _ROWS_FOR_BLENDING else _SHARES[1:]
    tried = [_borders(local, known, share, unit) for unit in _UNITS for share in shares]
    fitting = [each for each in tried if each is not None]
    if not fitting:
        raise SourceInvalid(f"the times in {moments.name} lie too close together to be split", field="event_time")
    faults = [_faults(_parts(local, each), labels, regions, kind) for each in fitting]
    best = min(range(len(fitting)), key=lambda place: len(faults[place]))
    parts = _parts(local, fitting[best])
    rows = {name: int((parts == place).sum()) for place, name in enumerate(("train", "validate", "blend", "test"))}
    return dict(zip(FIELDS, fitting[best], strict=True)), rows, faults[best]


def _borders(
    local: pd.Series[Any], known: pd.Series[Any], shares: tuple[float, ...], unit: str
) -> list[datetime] | None:
    """Three quantiles and the end, rounded down to the unit (the end up); None where they are not in order."""
    quantiles: list[Any] = [local.quantile(share, interpolation="higher") for share in shares]
    delay = max((known - local).quantile(0.99), pd.Timedelta(0))
    borders = [*(_border(each, unit) for each in quantiles), _border(local.max() + delay, unit, following=1)]
    train, validate, blend, test = borders
    if not local.min() < train < validate <= blend < test or (shares[1] < shares[2]) != (validate < blend):
        return None
    return [each.to_pydatetime() for each in borders]


def _border(moment: pd.Timestamp, unit: str, following: int = 0) -> pd.Timestamp:
    """The start of the day, hour, minute or second that holds a moment, or of the following one."""
    if unit != "D":
        step = pd.Timedelta(f"1{unit}")
        return moment.tz_convert("UTC").floor(step).tz_convert(moment.tz) + following * step
    day = moment.tz_localize(None).normalize() + pd.Timedelta(f"{following}D")
    return day.tz_localize(moment.tz, nonexistent="shift_forward", ambiguous=True)


def _parts(local: pd.Series[Any], borders: list[datetime]) -> pd.Series[Any]:
    return sum((local >= border).astype("int64") for border in borders[:3])  # type: ignore[return-value]


def _faults(parts: pd.Series[Any], labels: pd.Series[Any], regions: pd.Series[Any], kind: TargetKind) -> list[str]:
    """What would keep a region from being trained: a part without rows, or with one class only."""
    faults = []
    for region, mine in parts.groupby(regions):
        for place, name in enumerate(("train", "validate", "blend", "test")):
            if not (parts == place).any():
                continue
            values = labels[mine.index[mine == place]].nunique()
            if values == 0 or (values == 1 and (name == "train" or kind == "binary")):
                faults.append(f"region {region}: {'no rows' if not values else 'only one class'} in the {name} part")
    return faults
