"""What an ingest left in its window: vectors, labels and their rate by region, and the statistics of each feature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import AwareDatetime

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.features.statistics import (
    FeatureStatistics,
    LevelStatistics,
    NumberStatistics,
    compute_by_region,
    stored_statistics,
    window_parameters,
)

QUERIES = Queries(Path(__file__).with_name("windows.sql"))
ALL_REGIONS = "all regions"
BARS = " ▁▂▃▄▅▆▇█"


class DescribedWindow(Contract):
    """What lies in a window of event time, of one region or of all."""

    use_case: str
    region: str | None
    """None: of all regions together."""
    window_start: AwareDatetime | None
    """Event times from here on; None: from the first."""
    window_end: AwareDatetime | None
    """Event times before this moment; None: to the last."""
    vectors: int
    labels: int
    """Those whose own event time lies in the window."""
    positives: int | None
    """Labels that are 1; None where the target is not binary."""
    described_at: AwareDatetime


def describe_window(
    connection: Connection, use_case: UseCase, *, start: datetime | None = None, end: datetime | None = None
) -> list[DescribedWindow]:
    """Describe a window, with the statistics of every feature, and keep both.

    Returns:
        All regions together first (`region` is None), then each by its name.

    Raises:
        ContractViolated: A bound has no time zone, or the window is empty by its bounds.
        FeaturesInvalid: Stored vectors hold text where the declaration says number.
    """
    vectors = {
        each.region: each.statistics.count for each in compute_by_region(connection, use_case, start=start, end=end)
    }
    where = window_parameters(use_case.name, None, start, end)
    labels = {region: counts for region, *counts in connection.execute(QUERIES.count_labels, where).fetchall()}
    moment = datetime.now(UTC)
    described = [
        DescribedWindow(
            use_case=use_case.name,
            region=region,
            window_start=start,
            window_end=end,
            vectors=vectors.get(region, 0),
            labels=counts[0],
            positives=counts[1] if use_case.target.kind == "binary" else None,
            described_at=moment,
        )
        for region in sorted(vectors.keys() | labels.keys(), key=lambda region: region or "")
        for counts in [labels.get(region, (0, 0))]
    ]
    connection.execute(QUERIES.forget_regions, {**where, "regions": [each.region for each in described if each.region]})
    with connection.cursor() as cursor:
        cursor.executemany(QUERIES.store, [{**where, **each.model_dump()} for each in described])
    return described


def newest_window(connection: Connection, use_case: UseCase) -> list[DescribedWindow]:
    """The window that was described last; empty where none was yet. Ordered as `describe_window` gives it."""
    rows = connection.execute(QUERIES.newest, {"use_case": use_case.name}).fetchall()
    names = ("region", "window_start", "window_end", "vectors", "labels", "positives", "described_at")
    return [DescribedWindow(use_case=use_case.name, **dict(zip(names, row, strict=True))) for row in rows]


def newest_statistics(connection: Connection, use_case: UseCase) -> list[FeatureStatistics]:
    """Of each feature over all regions of the window described last, in declared order; empty where none was yet."""
    window = newest_window(connection, use_case)
    if not window:
        return []
    return stored_statistics(connection, use_case, start=window[0].window_start, end=window[0].window_end)


def _rate(each: DescribedWindow) -> float | None:
    return round(each.positives / each.labels, 4) if each.labels and each.positives is not None else None


def region_table(described: Sequence[DescribedWindow]) -> pd.DataFrame:
    """One row a region, for people: vectors, labels and the rate of positive ones (None where there is no label)."""
    return pd.DataFrame(
        {
            "region": [each.region or ALL_REGIONS for each in described],
            "vectors": [each.vectors for each in described],
            "labels": [each.labels for each in described],
            "label rate": [_rate(each) for each in described],
            "event times from": [_moment(each.window_start, "the first") for each in described],
            "until": [_moment(each.window_end, "the last") for each in described],
            "described at": [_moment(each.described_at, "") for each in described],
        }
    )


def feature_table(described: Sequence[FeatureStatistics]) -> pd.DataFrame:
    """One row a feature, for people: how much is missing, and the range and the shape of the rest."""
    return pd.DataFrame(
        [_feature_row(each.feature, each.statistics) for each in described],
        columns=["feature", "missing", "distinct", "minimum", "median", "maximum", "mean", "values"],
    )


def bars(histogram: Sequence[int]) -> str:
    """One character a bin, as high as it is full; an empty bin is a blank, a filled one never is.

    >>> bars([0, 1, 50, 100])
    ' ▁▄█'
    """
    highest = max(histogram, default=0)
    return "".join(BARS[-(-count * (len(BARS) - 1) // highest)] for count in histogram)


def _feature_row(feature: str, found: NumberStatistics | LevelStatistics) -> list[Any]:
    missing = f"{found.missing / found.count:.1%}" if found.missing else "0"
    if isinstance(found, NumberStatistics):
        places = [found.minimum, found.quantiles.get("0.5"), found.maximum, found.mean]
        shown = ["" if value is None else f"{value:.6g}" for value in places]
        halved = [sum(found.histogram[place : place + 2]) for place in range(0, len(found.histogram), 2)]
        return [feature, missing, found.distinct, *shown, bars(halved)]  # twenty bins do not fit a column
    present = found.count - found.missing
    frequent = ", ".join(f"{one.level} {one.count / present:.1%}" for one in found.most_frequent[:5])
    return [feature, missing, found.distinct, "", "", "", "", frequent]


def _moment(moment: datetime | None, otherwise: str) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else otherwise
