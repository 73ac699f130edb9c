"""Statistics of features from a real PostgreSQL, held against the same ones by numpy and pandas."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mage_platform.command_line import entities
from mage_platform.contracts import FeatureColumn, UseCase, entity_id_of
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, FeaturesInvalid, NotFound
from mage_platform.features.statistics import (
    FeatureStatistics,
    LevelStatistics,
    NumberStatistics,
    compute_statistics,
    stored_statistics,
)
from mage_platform.settings import Settings
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration

DAY = datetime(2024, 3, 1, tzinfo=UTC)
ROWS = 1_000
AWKWARD = [
    "plain",
    'say "hi"',
    "it's",
    "back\\slash",
    "tab\tnewline\n",
    "ünï ✈",
    "",
    "{0} %s %(x)s",
    "NULL",
    "Ångström",
]
NUMBERS = ("hour", "rain", "constant", "negative", "huge", "never", "100 % 'odd' {name}", "almost_never")
LEVELS = ("carrier", "weekend", "never_said")


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    demo.write_use_case(settings.use_cases_folder)
    use_case = load_use_case(settings, demo.NAME)
    columns = {
        **{name: FeatureColumn(type="number", missing="allowed") for name in NUMBERS},
        "hour": FeatureColumn(type="integer"),
        **{name: FeatureColumn(type="category", missing="allowed") for name in LEVELS},
        "weekend": FeatureColumn(type="boolean", missing="allowed"),
    }
    return use_case.model_copy(update={"features": use_case.features.model_copy(update={"columns": columns})})


@pytest.fixture
def frame() -> pd.DataFrame:
    """One vector a minute in two regions; None is missing, and one feature is absent from most vectors."""
    random = np.random.default_rng(3)
    rain = np.where(random.random(ROWS) < 0.3, np.nan, random.gamma(2, 3, ROWS))
    return pd.DataFrame(
        {
            "event_time": [DAY + timedelta(minutes=minute) for minute in range(ROWS)],
            "region": random.choice(["Bern", "Zürich"], ROWS),
            "hour": random.integers(0, 21, ROWS),
            "rain": rain,
            "constant": 0.1 + 0.2,
            "negative": -random.gamma(1, 1, ROWS).round(1),
            "huge": random.normal(0, 1e200, ROWS),
            "never": np.nan,
            "100 % 'odd' {name}": random.normal(size=ROWS),
            "almost_never": [7.5] + [np.nan] * (ROWS - 1),
            "carrier": random.choice([*AWKWARD, *(f"level {number}" for number in range(5)), None], ROWS),
            "weekend": random.choice(np.array([True, False, None], dtype=object), ROWS, p=[0.2, 0.7, 0.1]),
            "never_said": None,
        }
    )


def _store(connection: Connection, frame: pd.DataFrame) -> None:
    rows = []
    for number, row in enumerate(frame.astype(object).where(frame.notna(), None).to_dict("records")):
        moment, region = row.pop("event_time"), row.pop("region")
        if row.get("almost_never") is None:
            row.pop("almost_never", None)
        rows.append((entity_id_of(demo.NAME, [number]), moment.to_pydatetime(), json.dumps(row), demo.NAME, region))
    connection.cursor().executemany(
        "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
        "VALUES (%s, %s, %s::text::jsonb, %s, %s)",
        rows,
    )


def _by_name(found: list[FeatureStatistics]) -> dict[str, Any]:
    return {each.feature: each.statistics for each in found}


def _assert_number(found: NumberStatistics, values: pd.Series[Any]) -> None:
    present = values.dropna().to_numpy(dtype=np.float64)
    assert (found.count, found.missing, found.distinct) == (
        len(values),
        len(values) - len(present),
        len(np.unique(present)),
    )
    assert (found.minimum, found.maximum) == (present.min(), present.max())
    assert found.mean == pytest.approx(present.mean(), rel=1e-9)
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert [float(share) for share in found.quantiles] == shares
    assert list(found.quantiles.values()) == pytest.approx(list(np.quantile(present, shares)), rel=1e-12)
    if present.min() < present.max():
        counts, edges = np.histogram(present, bins=20)
        assert found.histogram_edges == pytest.approx(list(edges), rel=1e-12)
        assert found.histogram == counts.tolist()


def test_numbers_are_described_as_numpy_describes_them(
    settings: Settings, use_case: UseCase, frame: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        found = _by_name(compute_statistics(connection, use_case))
    for name in set(NUMBERS) - {"never"}:
        _assert_number(found[name], frame[name])


def test_levels_are_counted_as_pandas_counts_them(settings: Settings, use_case: UseCase, frame: pd.DataFrame) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        found = _by_name(compute_statistics(connection, use_case))
    counts = frame["carrier"].value_counts()
    expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].encode()))[:10]
    assert [(each.level, each.count) for each in found["carrier"].most_frequent] == expected
    assert (found["carrier"].missing, found["carrier"].distinct) == (frame["carrier"].isna().sum(), 15)
    truths = frame["weekend"].value_counts()
    assert [(each.level, each.count) for each in found["weekend"].most_frequent] == [
        ("false", truths[False]),
        ("true", truths[True]),
    ]
    assert found["weekend"].missing == frame["weekend"].isna().sum()


def test_awkward_level_names_come_back_unchanged_from_the_store(
    settings: Settings, use_case: UseCase, frame: pd.DataFrame
) -> None:
    frame = frame.head(len(AWKWARD)).assign(carrier=AWKWARD)
    with connect(settings) as connection:
        _store(connection, frame)
        compute_statistics(connection, use_case, features=["carrier"])
    with connect(settings) as connection:
        found = _by_name(stored_statistics(connection, use_case, features=["carrier"]))
    assert [each.level for each in found["carrier"].most_frequent] == sorted(AWKWARD, key=str.encode)


def test_a_constant_feature_has_one_bin(settings: Settings, use_case: UseCase, frame: pd.DataFrame) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        found = _by_name(compute_statistics(connection, use_case))["constant"]
    value = 0.1 + 0.2
    assert (found.minimum, found.maximum, found.distinct) == (value, value, 1)
    assert (found.histogram_edges, found.histogram) == ([value, value], [ROWS])


def test_a_feature_without_any_value_is_all_missing(settings: Settings, use_case: UseCase, frame: pd.DataFrame) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        found = _by_name(compute_statistics(connection, use_case))
    assert found["never"] == NumberStatistics(count=ROWS, missing=ROWS, distinct=0)
    assert found["never_said"] == LevelStatistics(count=ROWS, missing=ROWS, distinct=0)


def test_a_window_is_half_open_and_a_region_counts_alone(
    settings: Settings, use_case: UseCase, frame: pd.DataFrame
) -> None:
    start, end = DAY + timedelta(minutes=100), DAY + timedelta(minutes=400)
    inside = frame.iloc[100:400]
    with connect(settings) as connection:
        _store(connection, frame)
        everywhere = _by_name(compute_statistics(connection, use_case, start=start, end=end))
        region = _by_name(compute_statistics(connection, use_case, start=start, end=end, region="Zürich"))
        open_end = _by_name(compute_statistics(connection, use_case, start=start))
    _assert_number(everywhere["rain"], inside["rain"])
    _assert_number(region["rain"], inside.loc[inside["region"] == "Zürich", "rain"])
    _assert_number(open_end["rain"], frame.iloc[100:]["rain"])


def test_an_empty_window_has_counts_of_nought(settings: Settings, use_case: UseCase, frame: pd.DataFrame) -> None:
    long_ago = DAY - timedelta(days=9)
    with connect(settings) as connection:
        _store(connection, frame)
        found = compute_statistics(connection, use_case, start=long_ago, end=DAY)
        assert stored_statistics(connection, use_case, start=long_ago, end=DAY) == found
    assert [each.feature for each in found] == [*NUMBERS, *LEVELS]
    assert {each.statistics.count for each in found} == {0}
    assert _by_name(found)["rain"] == NumberStatistics(count=0, missing=0, distinct=0)


def test_another_use_case_is_not_counted(settings: Settings, use_case: UseCase, frame: pd.DataFrame) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        other = use_case.model_copy(update={"name": "other"})
        assert _by_name(compute_statistics(connection, other))["hour"].count == 0


def test_what_was_computed_is_kept_once_for_each_region_and_window(
    settings: Settings, use_case: UseCase, frame: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        _store(connection, frame)
        compute_statistics(connection, use_case)
        second = compute_statistics(connection, use_case)
        bern = compute_statistics(connection, use_case, region="Bern", features=["rain"])
    with connect(settings) as connection:
        assert stored_statistics(connection, use_case) == second
        assert stored_statistics(connection, use_case, region="Bern") == bern
        count = connection.execute("SELECT count(*) FROM platform.feature_statistics").fetchone()
        assert count == (len(NUMBERS) + len(LEVELS) + 1,)
        with pytest.raises(NotFound, match="no statistics of rides are stored for region Zürich"):
            stored_statistics(connection, use_case, region="Zürich")


def test_bad_windows_and_names_are_refused_by_name(settings: Settings, use_case: UseCase) -> None:
    with connect(settings) as connection:
        for call in (compute_statistics, stored_statistics):
            with pytest.raises(ContractViolated, match="window_start 2024-03-01T00:00:00 has no time zone"):
                call(connection, use_case, start=DAY.replace(tzinfo=None))
            with pytest.raises(ContractViolated, match="holds no moment"):
                call(connection, use_case, start=DAY, end=DAY)
            with pytest.raises(ContractViolated, match="declares no feature 'snow'") as caught:
                call(connection, use_case, features=["snow"])
            assert caught.value.field == "features.snow"


def test_stored_text_that_is_declared_as_a_number_is_refused(settings: Settings, use_case: UseCase) -> None:
    with connect(settings) as connection:
        _store(connection, pd.DataFrame({"event_time": [DAY], "region": ["Bern"], "rain": ["wet"]}).astype(object))
        with pytest.raises(FeaturesInvalid, match='of rides do not keep its declaration: .*"wet"'):
            compute_statistics(connection, use_case)


def test_the_command_prints_a_table_or_json(
    settings: Settings, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.write_use_case(settings.use_cases_folder)
    monkeypatch.setattr(entities, "present_settings", lambda: settings)
    vectors = frame[["event_time", "region", "hour", "carrier"]].assign(rain_millimetres=frame["rain"], is_weekend=True)
    with connect(settings) as connection:
        _store(connection, vectors)
    window = ["--region", "Bern", "--window-start", "2024-03-01T00:00:00Z", "--window-end", "2024-03-01T05:00:00Z"]
    table = CliRunner().invoke(entities.features, ["describe", demo.NAME, *window])
    assert table.exit_code == 0, table.output
    inside = frame.iloc[:300]
    count = int((inside["region"] == "Bern").sum())
    assert (
        f"rides/Bern, event times from 2024-03-01T00:00:00Z until 2024-03-01T05:00:00Z, {count} vectors" in table.output
    )
    assert "rain_millimetres" in table.output and "true 100.0%" in table.output and "█" in table.output
    stored = CliRunner().invoke(
        entities.features, ["describe", demo.NAME, *window, "--stored", "--feature", "hour", "--json"]
    )
    assert stored.exit_code == 0, stored.output
    (found,) = json.loads(stored.stdout)
    assert (found["feature"], found["statistics"]["count"]) == ("hour", count)
    refused = CliRunner().invoke(entities.features, ["describe", demo.NAME, "--window-end", "2024-03-01"])
    assert "--window-end '2024-03-01' has no time zone" in str(refused.exception)
