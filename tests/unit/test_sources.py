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


def in_zone(settings: Settings, zone: str | None) -> UseCase:
    line = "  file: rides.csv\n" + (f"  time_zone: {zone}\n" if zone else "")
    text = demo.DECLARATION.replace("  function: source:load_rows\n  history_days: 1\n", line)
    (settings.use_cases_folder / demo.NAME / "use_case.yaml").write_text(text, encoding="utf-8")
    return load_use_case(settings, demo.NAME)


def test_times_without_a_zone_are_meant_in_the_declared_one(settings: Settings) -> None:
    rows = demo.ride_rows().iloc[:6].astype({"booked_at": str, "arrived_at": str})
    rows["booked_at"] = [
        "2024-01-15 12:00:00",  # winter, one hour ahead
        "2024-07-15T12:00:00",  # summer, two hours ahead
        "2024-07-15T12:00:00+09:00",  # carries its own
        "2024-07-15",  # midnight there
        "2024-03-31 02:30:00",  # skipped by the clocks: read with standard time, as PostgreSQL does
        "2024-10-27 02:30:00",  # comes twice: the later one
    ]
    rows.to_csv(settings.use_cases_folder / demo.NAME / "rides.csv", index=False)
    use_case = in_zone(settings, "Europe/Zurich")
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in load_rows(settings, use_case)["booked_at"]] == [
        "2024-01-15 11:00", "2024-07-15 10:00", "2024-07-15 03:00", "2024-07-14 22:00", "2024-03-31 01:30",
        "2024-10-27 01:30",
    ]  # fmt: skip
    assert len(load_rows(settings, use_case, end=datetime(2024, 2, 1, tzinfo=UTC))) == 1


def test_naive_times_of_a_parquet_file_are_refused_without_a_zone_and_read_with_one(settings: Settings) -> None:
    rows = demo.ride_rows()
    instants = rows["booked_at"].tolist()
    for column in ("booked_at", "arrived_at"):
        rows[column] = rows[column].dt.tz_convert("America/New_York").dt.tz_localize(None)
    path = settings.use_cases_folder / "local.parquet"
    rows.to_parquet(path)
    with pytest.raises(SourceInvalid, match=r"a time without a time zone: write it as .* source\.time_zone"):
        load_rows(settings, in_zone(settings, None), file=path)
    read = load_rows(settings, in_zone(settings, "America/New_York"), file=path)
    skipped = datetime(2024, 3, 10, 7, tzinfo=UTC)  # that hour has no local time of its own in New York
    assert [each for each in read["booked_at"].tolist() if each.date() != skipped.date()] == [
        each for each in instants if each.date() != skipped.date()
    ]


def test_what_is_no_time_is_named_with_its_row(settings: Settings) -> None:
    rows = demo.ride_rows().astype({"booked_at": str})
    rows.loc[7, "booked_at"] = "31.01.2024"
    rows.to_csv(settings.use_cases_folder / demo.NAME / "rides.csv", index=False)
    with pytest.raises(SourceInvalid, match=r"booked_at holds '31\.01\.2024' \(row 7\), which is not a time"):
        load_rows(settings, in_zone(settings, "UTC"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_limit_reads_the_first_rows(settings: Settings, use_case: UseCase, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rides{suffix}"
    rows = demo.ride_rows()
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    assert load_rows(settings, use_case, file=path, limit=7)["ride"].tolist() == rows["ride"].tolist()[:7]
