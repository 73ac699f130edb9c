"""A declaration tried against its functions, its expectations and some rows of its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from mage_platform.errors import UseCaseInvalid
from mage_platform.settings import Settings, load_settings
from mage_platform.trial import check_use_case
from tests import demo_use_case as demo


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    demo.write_use_case(tmp_path)
    return load_settings(use_cases_folder=tmp_path)


def rewrite(settings: Settings, old: str, new: str, file: str = "use_case.yaml") -> None:
    path = settings.use_cases_folder / demo.NAME / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def as_table(settings: Settings) -> None:
    """The same use case reading its CSV file as it is, with columns as features."""
    rewrite(settings, "  function: source:load_rows\n  history_days: 1\n", "  file: rides.csv\n")
    rewrite(settings, "  function: features:build_features\n", "")
    rewrite(settings, "    hour: {type: integer, minimum: 0, maximum: 23}\n", "")
    rewrite(settings, "    is_weekend: {type: boolean}\n", "")


def test_a_good_use_case_is_tried_on_rows_of_its_source(settings: Settings) -> None:
    # no ride was booked on the last day before 1 August, so the last 30 are read, and a day of history
    booked = demo.ride_rows()["booked_at"]
    assert check_use_case(settings, demo.NAME)[1] == int((booked >= "2024-07-01T00:00:00Z").sum())
    assert check_use_case(settings, demo.NAME, with_source=False)[1] is None
    as_table(settings)
    assert check_use_case(settings, demo.NAME)[1] == 1_000


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("values_to_not_be_null", "values_to_be_not_null", 20, "did you mean expect_column_values_to_not_be_null"),
        ("min_value: 0, max", "min_valu: 0, max", 21, "takes no 'min_valu': did you mean 'min_value'"),
        ("min_value: 0, max_value: 500", "min_value: 600, max_value: 500", 21, "min_value 600 is above max_value 500"),
        ("{column: rain_millimetres, min_value: 0, max_value: 500}", "{column: rain_millimetres}", 21, "cannot both"),
        ("{column: carrier}", "{colum: carrier}", 20, "takes no 'colum': did you mean 'column'"),
        ("{column: carrier}", "{column: carier}", 20, "the source has no column 'carier': did you mean 'carrier'"),
        ("key: [ride]", "key: [ride, rid]", 6, "the source has no column 'rid': did you mean 'ride'"),
        ("event_time: booked_at", "event_time: booked", 7, "no column 'booked': did you mean 'booked_at'"),
        ("region: city", "region: town", 8, "the source has no column 'town'; it has ride, city"),
        ("known_at: arrived_at", "known_at: carrier", 9, "carrier holds '(fast|slow)' .*, which is not a time"),
        ("column: late, known", "column: city, known", 9, "'Bern' is neither 0 nor 1; name the value"),
        ("column: late, known", "column: city, positive: yes, known", 9, "write it in quotes, 'yes'"),
        ("key: [ride]", "key: [city]", 6, "rows share entity and event time|no column"),
        ("source:load_rows", "source:load_row", 4, "has no function 'load_row'; it has load_rows. Did you mean"),
        ("features:build_features", "feature:build", 11, r"feature\.py, which does not exist: write it"),
        ("maximum: 23}", "maximum: 12}", 13, "is above the declared maximum 12"),
        ("is_weekend: {type: boolean}", "is_weekend: {type: category}", 16, "is not text, but declared as category"),
    ],
)
def test_a_mistake_names_its_line_its_value_and_the_cure(
    settings: Settings, old: str, new: str, line: int, message: str
) -> None:
    if "city" in new and "key" in new:
        rows = demo.ride_rows()
        rows["booked_at"] = rows["booked_at"].dt.floor("D")
        demo.write_use_case(settings.use_cases_folder, rows)
    rewrite(settings, old, new)
    with pytest.raises(UseCaseInvalid, match=rf"use_case\.yaml:{line}: .*({message})"):
        check_use_case(settings, demo.NAME)


def test_functions_that_cannot_be_called_as_they_are_say_how_they_are_called(settings: Settings) -> None:
    rewrite(settings, "def load_rows(start=None, end=None):", "def load_rows():", "source.py")
    rewrite(settings, "def build_features(rows):", "def build_features(rows, settings):", "features.py")
    with pytest.raises(UseCaseInvalid) as caught:
        check_use_case(settings, demo.NAME)
    first, second = str(caught.value).splitlines()
    assert ":4: source.function: " in first and "called as load_rows(start, end)" in first
    assert ":11: features.function: " in second and "called as build_features(rows)" in second


def test_feature_code_that_raises_is_named_by_its_error(settings: Settings) -> None:
    rewrite(settings, 'rows["booked_at"].dt.hour', 'rows["bookd_at"].dt.hour', "features.py")
    with pytest.raises(UseCaseInvalid, match=r":11: features\.function: .*raised KeyError: 'bookd_at'"):
        check_use_case(settings, demo.NAME)


def test_a_file_that_is_not_there_names_those_that_are(settings: Settings) -> None:
    as_table(settings)
    rewrite(settings, "file: rides.csv", "file: ride.csv")
    with pytest.raises(
        UseCaseInvalid, match=r":4: source\.file: .*ride\.csv does not exist; the folder has rides\.csv"
    ):
        check_use_case(settings, demo.NAME)


def test_times_without_a_zone_are_told_at_the_event_time(settings: Settings) -> None:
    as_table(settings)
    path = settings.use_cases_folder / demo.NAME / "rides.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("+00:00", ""), encoding="utf-8")
    with pytest.raises(UseCaseInvalid, match=r":6: event_time: .*name in source\.time_zone the zone"):
        check_use_case(settings, demo.NAME)
