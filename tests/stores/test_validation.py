"""Validation with the real great-expectations, and the quarantine in a real database."""

from __future__ import annotations

import pandas as pd
import pytest

from mage_platform.contracts import UseCase
from mage_platform.database import connect
from mage_platform.errors import ValidationStopped
from mage_platform.features.ingest import ingest
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import validate_rows
from mage_platform.redrive import redrive
from mage_platform.settings import Settings
from mage_platform.use_cases import load_use_case
from mage_platform.validation import quarantined_rows, validate
from mage_platform.validation.quarantine import last_report
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    demo.write_use_case(settings.use_cases_folder)
    return load_use_case(settings, demo.NAME)


@pytest.fixture
def dirty() -> pd.DataFrame:
    """40 rows, four of them bad, one of those twice over."""
    rows = demo.ride_rows(cities=("Bern",), rows_a_city=40)
    rows["rain_millimetres"] = 1.0
    rows = rows.astype({"rain_millimetres": object})
    rows.loc[3, "carrier"] = None
    rows.loc[5, "rain_millimetres"] = -4
    rows.loc[8, "rain_millimetres"] = "wet"
    rows.loc[9, ["carrier", "rain_millimetres"]] = [None, 9999]
    return rows


def test_each_row_is_in_exactly_one_place_and_the_counts_add_up(use_case: UseCase, dirty: pd.DataFrame) -> None:
    validated = validate(dirty, use_case, run="1")
    report = validated.report
    assert (report.rows, report.passed, report.quarantined) == (40, 36, 4)
    assert sorted(validated.refused.index) == [3, 5, 8, 9]
    assert sorted([*validated.passed.index, *validated.refused.index]) == list(dirty.index)
    assert not report.stopped


def test_a_row_keeps_all_its_reasons_with_column_value_and_rule(use_case: UseCase, dirty: pd.DataFrame) -> None:
    reasons = validate(dirty, use_case, run="1").reasons
    assert [(each.column, each.value) for each in reasons[9]] == [("carrier", None), ("rain_millimetres", 9999)]
    assert [(each.column, each.value, each.rule) for each in reasons[8]] == [
        ("rain_millimetres", "wet", "a number is expected")
    ]
    assert reasons[5][0].rule == (
        'expect_column_values_to_be_between(column="rain_millimetres", min_value=0, max_value=500)'
    )


def test_a_rule_on_two_columns_keeps_both_values_in_plain_text(use_case: UseCase) -> None:
    rows = demo.ride_rows(cities=("Bern",), rows_a_city=3)
    rows["due"] = rows["planned_at"] = pd.Timestamp("2026-03-01T10:00:00Z")
    rows.loc[1, "due"] = pd.Timestamp("2026-03-01T09:30:00Z")
    rule = {"expect_column_pair_values_a_to_be_greater_than_b": {
        "column_A": "due", "column_B": "planned_at", "or_equal": True,
    }}  # fmt: skip
    expectations = use_case.expectations.model_copy(update={"rows": [rule]})
    reasons = validate(rows, use_case.model_copy(update={"expectations": expectations}), run="1").reasons
    assert {label: [(each.column, each.value) for each in found] for label, found in reasons.items()} == {
        1: [("due, planned_at", ["2026-03-01 09:30:00", "2026-03-01 10:00:00"])]
    }


def test_too_many_bad_rows_stop_the_run_with_a_readable_report_and_lose_nothing(
    settings: Settings, use_case: UseCase, dirty: pd.DataFrame
) -> None:
    dirty.loc[10:20, "carrier"] = None
    with pytest.raises(ValidationStopped) as caught:
        validate_rows(settings, use_case, dirty, run="77")
    assert "15 of 40 rows refused (37.50%, allowed 20.00%)" in str(caught.value)
    assert '13 rows: expect_column_values_to_not_be_null(column="carrier")' in str(caught.value)
    with connect(settings) as connection:
        assert quarantined_rows(connection, run="77")[0] == 15
        report = last_report(connection, demo.NAME)
    assert report is not None
    assert report.stopped


def test_a_broken_table_rule_stops_the_run_even_without_a_bad_row(settings: Settings, use_case: UseCase) -> None:
    with pytest.raises(ValidationStopped, match=r"expect_table_row_count_to_be_between\(min_value=1\): observed 0"):
        validate_rows(settings, use_case, demo.ride_rows().head(0), run="1")


def test_a_rule_that_cannot_be_evaluated_stops_the_run_by_name(use_case: UseCase) -> None:
    rows = demo.ride_rows(cities=("Bern",), rows_a_city=5).drop(columns="carrier")
    report = validate(rows, use_case, run="1").report
    assert report.stopped
    assert "expect_column_values_to_not_be_null" in report.broken_table_rules[0]
    assert "carrier" in report.broken_table_rules[0]


def test_the_same_bad_rows_twice_are_kept_once(settings: Settings, use_case: UseCase, dirty: pd.DataFrame) -> None:
    for run in ("1", "2"):
        validate_rows(settings, use_case, dirty, run=run)
    with connect(settings) as connection:
        count, rows = quarantined_rows(connection, use_case=demo.NAME)
    assert count == 4
    assert {row.run for row in rows} == {"2"}


def test_a_redrive_stores_what_passes_mended_expectations(
    settings: Settings, use_case: UseCase, dirty: pd.DataFrame
) -> None:
    passed = validate_rows(settings, use_case, dirty, run="1")
    with connect(settings) as connection:
        ingest(connection, use_case, build_vectors(settings, use_case, passed))
    assert redrive(settings, use_case).stored == 0

    mended = use_case.model_copy(
        update={
            "expectations": use_case.expectations.model_copy(
                update={"rows": [{"expect_column_values_to_not_be_null": {"column": "carrier"}}]}
            ),
            "features": use_case.features.model_copy(
                update={
                    "columns": {
                        **use_case.features.columns,
                        "rain_millimetres": use_case.features.columns["rain_millimetres"].model_copy(
                            update={"minimum": -10.0}
                        ),
                    }
                }
            ),
        }
    )
    with connect(settings) as connection:
        connection.execute("DELETE FROM platform.quarantine WHERE source_row ->> 'rain_millimetres' = 'wet'")
    report = redrive(settings, mended)
    assert (report.tried, report.stored, report.refused) == (3, 1, 2)
    with connect(settings) as connection:
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (37,)
        assert quarantined_rows(connection)[0] == 2
