"""What an ingest left in its window, held against the same by pandas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from mage_platform import ingestion
from mage_platform.contracts import UseCase
from mage_platform.database import connect
from mage_platform.features.ingest import ingest
from mage_platform.features.statistics import FeatureStatistics, compute_statistics, stored_statistics
from mage_platform.features.vectors import build_vectors
from mage_platform.features.windows import describe_window, feature_table, newest_statistics, newest_window
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration

START, END = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    rows = demo.ride_rows()
    rows["late"] = rows["late"].astype("Int8").where(rows.index % 10 != 0)  # some rides never arrived
    rows.loc[0, "booked_at"] = START
    rows.loc[1, "booked_at"] = END
    demo.write_use_case(settings.use_cases_folder, rows)
    return load_use_case(settings, demo.NAME)


@pytest.fixture
def rows(settings: Settings, use_case: UseCase) -> pd.DataFrame:
    """The source rows, all of them ingested."""
    rows = load_rows(settings, use_case)
    with connect(settings) as connection:
        ingest(connection, use_case, build_vectors(settings, use_case, rows))
    return rows


def _counts(rows: pd.DataFrame) -> tuple[int, int, int]:
    return len(rows), int(rows["late"].notna().sum()), int((rows["late"] == 1).sum())


def _but_mean(described: FeatureStatistics) -> dict[str, Any]:
    """The last bit of a mean depends on the order of the sum."""
    return {name: value for name, value in described.statistics.model_dump().items() if name != "mean"}


def _means(described: list[FeatureStatistics]) -> list[float]:
    return [each.statistics.mean for each in described if each.statistics.kind == "number"]


def test_a_window_is_counted_as_pandas_counts_it_by_region_and_in_all(
    settings: Settings, use_case: UseCase, rows: pd.DataFrame
) -> None:
    inside = rows[(rows["booked_at"] >= START) & (rows["booked_at"] < END)]
    assert 0 in inside.index and 1 not in inside.index
    with connect(settings) as connection:
        described = describe_window(connection, use_case, start=START, end=END)
    found = {each.region: (each.vectors, each.labels, each.positives) for each in described}
    assert list(found) == [None, *sorted(demo.CITIES)]
    assert found[None] == _counts(inside)
    for city in demo.CITIES:
        assert found[city] == _counts(inside[inside["city"] == city])
    with connect(settings) as connection:
        assert newest_window(connection, use_case) == described


def test_each_regions_statistics_are_those_that_are_computed_for_it_alone(
    settings: Settings, use_case: UseCase, rows: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        describe_window(connection, use_case, start=START)
        for region in (None, *demo.CITIES):
            kept = stored_statistics(connection, use_case, region=region, start=START)
            alone = compute_statistics(connection, use_case, region=region, start=START)
            assert [_but_mean(each) for each in kept] == [_but_mean(each) for each in alone]
            means = [_means(described) for described in (kept, alone)]
            assert means[0] == pytest.approx(means[1], rel=1e-12)
            assert [each.feature for each in kept] == list(use_case.features.columns)


def test_a_region_whose_vectors_are_gone_is_not_described_any_more(
    settings: Settings, use_case: UseCase, rows: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        describe_window(connection, use_case)
        connection.execute("DELETE FROM platform.features WHERE region = 'Bern'")
        connection.execute("DELETE FROM platform.labels WHERE region = 'Bern'")
        described = describe_window(connection, use_case)
        assert [each.region for each in described] == [None, "Genève", "Zürich"]
        assert newest_window(connection, use_case) == described
        left = connection.execute("SELECT DISTINCT region FROM platform.feature_statistics ORDER BY 1").fetchall()
    assert left == [("Genève",), ("Zürich",), (None,)]


def test_the_newest_window_is_the_one_described_last(settings: Settings, use_case: UseCase, rows: pd.DataFrame) -> None:
    with connect(settings) as connection:
        assert (newest_window(connection, use_case), newest_statistics(connection, use_case)) == ([], [])
        describe_window(connection, use_case, start=START, end=END)
        described = describe_window(connection, use_case, end=START)
        assert newest_window(connection, use_case) == described
        assert {each.window_end for each in newest_statistics(connection, use_case)} == {START}
        again = describe_window(connection, use_case, start=START, end=END)
        assert newest_window(connection, use_case) == again


def test_a_window_without_vectors_is_described_as_empty(
    settings: Settings, use_case: UseCase, rows: pd.DataFrame
) -> None:
    table = ingestion.describe_window(settings, use_case, end=datetime(2000, 1, 1, tzinfo=UTC))
    assert table[["region", "vectors", "labels", "label rate"]].values.tolist() == [["all regions", 0, 0, None]]
    with connect(settings) as connection:
        shown = feature_table(newest_statistics(connection, use_case))
    assert shown["missing"].tolist() == ["0"] * len(use_case.features.columns)


def test_the_table_of_features_shows_what_is_missing_and_the_shape_of_the_rest(
    settings: Settings, use_case: UseCase, rows: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        describe_window(connection, use_case)
        table = feature_table(newest_statistics(connection, use_case)).set_index("feature")
    rain: Any = rows["rain_millimetres"]
    assert table.loc["rain_millimetres", "missing"] == f"{rain.isna().mean():.1%}"
    assert float(table.loc["rain_millimetres", "mean"]) == pytest.approx(rain.mean(), rel=1e-5)
    assert float(table.loc["rain_millimetres", "maximum"]) == rain.max()
    assert table.loc["rain_millimetres", "values"][0] == "█"  # it is mostly dry
    assert len(table.loc["hour", "values"]) == 10
    slow = (rows["carrier"] == "slow").mean()
    assert f"slow {slow:.1%}" in table.loc["carrier", "values"]
