"""What is read from Mage's records of a run, and how it is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from mage_platform.orchestration.failure_reason import reason_of
from mage_platform.orchestration.progress import RunProgress, RunStatus, run_progress, run_result
from mage_platform.orchestration.render import LiveRunView


def block(number: int, name: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "block_uuid": name, "status": status, "started_at": None, "completed_at": None, **more}


def fan_out(*, south: str = "running", status: str = "running", metrics: dict[str, Any] | None = None) -> RunProgress:
    began = "2026-11-23 10:00:00"
    return run_progress(
        {
            "id": 7,
            "pipeline_uuid": "train",
            "status": status,
            "started_at": began,
            "completed_at": None,
            "block_runs": [
                block(1, "plan", "completed", started_at=began, completed_at="2026-11-23 10:00:02.5"),
                block(2, "fit", "completed"),
                block(3, "register", "initial"),
                block(4, "fit:north", "completed", started_at=began, completed_at="2026-11-23 10:01:15"),
                block(5, "fit:south", south, started_at=began, metrics=metrics),
            ],
        }
    )


def test_children_stand_behind_their_block_though_mage_numbers_them_last() -> None:
    assert [each.name for each in fan_out().blocks] == ["plan", "fit", "fit:north", "fit:south", "register"]


def test_a_dynamic_block_counts_through_its_children() -> None:
    run = fan_out()
    assert [each.name for each in run.steps] == ["plan", "fit:north", "fit:south", "register"]
    assert run.steps_ended == 2


def test_times_are_utc_and_give_the_elapsed_seconds() -> None:
    run = fan_out()
    now = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)
    assert run.started_at == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert [each.elapsed_seconds(now) for each in run.blocks] == [2.5, None, 75.0, 30.0, None]


def test_a_block_started_again_after_its_process_died_says_which_attempt_it_is() -> None:
    assert [each.attempt for each in fan_out(metrics={"process_deaths": 1}).blocks] == [1, 1, 1, 2, 1]


def test_the_result_names_the_failed_child_and_its_reason() -> None:
    error = {"error": "no rows", "message": "Traceback ...\nValueError: no rows\n"}
    result = run_result(fan_out(south="failed", status="failed", metrics={"error": error}), 80.0)
    assert (result.completed, result.failed_block, result.reason) == (False, "fit:south", "ValueError: no rows")


def test_a_run_that_ends_before_any_block_fails_says_where_to_look() -> None:
    result = run_result(fan_out(status="failed"), 1.0)
    assert result.failed_block is None
    assert "scheduler log" in (result.reason or "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            {"error": "a: b\nc: d", "message": "Traceback\nmage_platform.errors.TrainingFailed: a: b\nc: d"},
            "a: b\nc: d",
        ),
        ({"error": "", "message": "Traceback\nAssertionError"}, "AssertionError"),
        ({"error": "None", "message": None}, "The block failed without leaving an error; see its log."),
        ({"error": "cannot", "message": "no traceback here"}, "cannot"),
    ],
)
def test_a_reason_has_no_traceback(error: dict[str, Any], reason: str) -> None:
    assert reason_of(error) == reason


def test_progress_survives_its_json_and_refuses_unknown_fields() -> None:
    run = fan_out()
    assert RunProgress.model_validate_json(run.model_dump_json()) == run
    with pytest.raises(ValidationError, match="Extra inputs"):
        RunProgress.model_validate({**run.model_dump(), "colour": "red"})


def test_without_a_terminal_each_change_is_one_line() -> None:
    output = io.StringIO()
    with LiveRunView(Console(file=output, width=200)) as view:
        view(fan_out())
        view(fan_out())
        error = {"error": "no rows", "message": "ValueError: no rows"}
        view(fan_out(south="failed", status="failed", metrics={"error": error}))
    lines = [line.partition(" s ")[2] for line in output.getvalue().splitlines()]
    assert lines == [
        "train [2/4] plan: completed in 2.5 s",
        "train [2/4] fit:north: completed in 1:15",
        "train [2/4] fit:south: running",
        "train [3/4] fit:south: failed - ValueError: no rows",
    ]


def test_on_a_terminal_the_table_shows_the_children_and_what_is_left() -> None:
    output = io.StringIO()
    with LiveRunView(Console(file=output, width=100, force_terminal=True)) as view:
        view(fan_out(south="cancelled", status="cancelled"))
    shown = output.getvalue()
    assert "3 of 4 done" in shown
    assert "north" in shown
    assert "2 of 2" in shown
    assert run_result(fan_out(status="cancelled"), 1.0).status is RunStatus.CANCELLED
