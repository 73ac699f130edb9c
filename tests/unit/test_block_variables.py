"""What a block takes from Mage, and what `--set` accepts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mage_platform.blocks import BlockRun, PipelineVariables
from mage_platform.errors import ContractViolated


def test_the_platforms_variables_are_picked_out_of_all_that_mage_passes() -> None:
    variables = PipelineVariables.from_mage(
        {"use_case": "rides", "regions": "Bern, Zürich", "env": "prod", "window_start": "2024-01-01T00:00:00Z"}
    )
    assert variables.regions == ["Bern", "Zürich"]
    assert variables.window_start == datetime(2024, 1, 1, tzinfo=UTC)
    assert variables.source_file is None


def test_an_unknown_variable_names_those_there_are() -> None:
    with pytest.raises(ContractViolated, match="no pipeline variable 'region'; there are use_case, window_start"):
        PipelineVariables.from_settings({"use_case": "rides", "region": "Bern"})


def test_a_window_without_time_zone_is_refused_by_name() -> None:
    with pytest.raises(ContractViolated, match="window_start='2024-01-01T00:00:00'.*timezone"):
        PipelineVariables.from_settings({"use_case": "rides", "window_start": "2024-01-01T00:00:00"})


def test_the_run_id_joins_mages_number_and_its_moment() -> None:
    values = {"use_case": "rides", "pipeline_run_id": 12, "execution_date": datetime(2024, 5, 6, 7, 8, 9)}
    assert BlockRun.of({**values, "pipeline_uuid": "train"}).run == "12_20240506T070809"


def test_a_block_run_by_hand_has_a_run_id_of_its_own() -> None:
    assert BlockRun.of({"use_case": "rides"}).run.startswith("interactive_")


def test_an_empty_variable_counts_as_left_out() -> None:
    variables = PipelineVariables.from_settings({"use_case": "rides", "window_end": "", "source_file": ""})
    assert (variables.window_end, variables.source_file) == (None, None)
    assert PipelineVariables.from_mage({"use_case": "rides", "source_file": "a.csv"}).source_file == Path("a.csv")


@pytest.mark.parametrize(("given", "means"), [("true", True), ("false", False), ("", False), (True, True)])
def test_bulk_is_a_truth_value(given: object, means: bool) -> None:
    assert PipelineVariables.from_mage({"use_case": "rides", "bulk": given}).bulk is means


def test_bulk_that_is_no_truth_value_is_refused_by_name() -> None:
    with pytest.raises(ContractViolated, match="bulk='much'.*valid boolean"):
        PipelineVariables.from_settings({"use_case": "rides", "bulk": "much"})
