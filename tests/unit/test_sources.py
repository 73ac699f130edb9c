"""Reading source rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from mage_platform.contracts import UseCase
from mage_platform.errors import SourceInvalid
from mage_platform.settings import Settings, load_settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    demo.write_use_case(tmp_path)
    return load_settings(use_cases_folder=tmp_path)


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    return load_use_case(settings, demo.NAME)


def test_a_window_brings_its_days_of_history_along(settings: Settings, use_case: UseCase) -> None:
    start, end = datetime(2024, 3, 10, tzinfo=UTC), datetime(2024, 3, 12, tzinfo=UTC)
    rows = load_rows(settings, use_case, start=start, end=end)
    assert rows["booked_at"].min() >= pd.Timestamp("2024-03-09T00:00:00Z")
    assert rows["booked_at"].min() < pd.Timestamp("2024-03-10T00:00:00Z")
    assert rows["booked_at"].max() < pd.Timestamp("2024-03-12T00:00:00Z")
    assert rows.index.tolist() == list(range(len(rows)))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_in_place_of_the_source_gives_the_same_rows(
    settings: Settings, use_case: UseCase, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"rides{suffix}"
    rows = demo.ride_rows()
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    from_file = load_rows(settings, use_case, file=path)
    assert from_file["booked_at"].tolist() == load_rows(settings, use_case)["booked_at"].tolist()


def test_a_time_without_zone_is_refused_with_its_row(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    rows = demo.ride_rows().astype({"booked_at": str})
    rows.loc[3, "booked_at"] = "2024-01-01 10:00:00"
    rows.to_csv(tmp_path / "rides.csv", index=False)
    with pytest.raises(SourceInvalid, match=r"booked_at holds '2024-01-01 10:00:00' \(row 3\)"):
        load_rows(settings, use_case, file=tmp_path / "rides.csv")


def test_a_missing_column_names_those_there_are(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    demo.ride_rows().drop(columns="city").to_csv(tmp_path / "rides.csv", index=False)
    with pytest.raises(SourceInvalid, match="no column 'city'; it has ride, booked_at"):
        load_rows(settings, use_case, file=tmp_path / "rides.csv")


def test_a_missing_or_strange_file_is_named(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"nothing\.csv does not exist"):
        load_rows(settings, use_case, file=tmp_path / "nothing.csv")
    (tmp_path / "rides.xlsx").write_text("x")
    with pytest.raises(SourceInvalid, match="only .parquet and .csv"):
        load_rows(settings, use_case, file=tmp_path / "rides.xlsx")
