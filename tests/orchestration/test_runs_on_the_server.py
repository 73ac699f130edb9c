"""Runs of a real Mage server, started and followed through its API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from mage_platform.orchestration.client import MageClient
from mage_platform.orchestration.follow import run_and_follow
from mage_platform.orchestration.mage_session import PUBLIC_API_KEY, MageSession
from mage_platform.orchestration.progress import BlockStatus, RunProgress, RunStatus, Trigger
from mage_platform.orchestration.refusals import LoginRefused, PipelineNotFound, RunNotFound
from tests.orchestration.real_mage import Server, is_running, server_command, start_backfill, wait_until

pytestmark = pytest.mark.integration


def session_of(server: Server) -> contextlib.closing[MageSession]:
    return contextlib.closing(
        MageSession(server.mage.base_url, server.mage.email, server.mage.password, PUBLIC_API_KEY)
    )


def test_a_fan_out_runs_a_child_for_each_region_and_reports_every_step(server: Server, tmp_path: Path) -> None:
    seen: list[RunProgress] = []
    written = tmp_path / "candidates.json"

    result = run_and_follow(server.mage, "fan_out", {"factor": 2, "write_to": str(written)}, seen.append)

    assert result.status is RunStatus.COMPLETED, result
    assert json.loads(written.read_text()) == [
        {"region": "EWR", "score": 6},
        {"region": "JFK", "score": 6},
        {"region": "LGA", "score": 6},
    ]
    assert [each.name for each in result.blocks] == [
        "plan_regions",
        "train_region",
        "train_region:train_EWR",
        "train_region:train_JFK",
        "train_region:train_LGA",
        "register_models",
    ]
    running = [each.name for progress in seen for each in progress.steps if each.status is BlockStatus.RUNNING]
    assert "train_region:train_JFK" in running
    children = [each for each in result.blocks if each.child]
    assert all(1.5 <= (each.elapsed_seconds(datetime.now(UTC)) or 0) < 30 for each in children)
    first_end = min(each.completed_at for each in children if each.completed_at)
    assert all(each.started_at and each.started_at < first_end for each in children), "not side by side"


def test_the_reason_of_a_failing_block_reaches_the_result_without_its_traceback(server: Server) -> None:
    result = run_and_follow(server.mage, "refusing", {}, lambda progress: None)

    assert result.status is RunStatus.FAILED
    assert result.failed_block == "refuse_rows"
    assert result.reason == "3 of 10 rows were refused, at most 1 may be. Mend the source."
    with server.client() as client:
        log = client.log_of(result.run_id, "refuse_rows")
    assert "mage_platform.errors.ValidationStopped: 3 of 10 rows" in log


def test_the_reason_of_a_failing_child_reaches_the_result_though_mage_forgets_it(server: Server) -> None:
    result = run_and_follow(server.mage, "fan_out", {"fail_region": "JFK"}, lambda progress: None)

    assert result.status is RunStatus.FAILED
    assert result.failed_block == "train_region:train_JFK"
    assert result.reason == "KeyError: 'origin'"


def test_a_block_that_is_killed_each_time_fails_after_its_second_attempt(server: Server, tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    result = run_and_follow(server.mage, "killed", {"count_starts_in": str(starts)}, lambda progress: None)

    assert starts.read_text().count("started") == 2
    assert result.status is RunStatus.FAILED
    assert result.failed_block == "exhaust_memory"
    assert "died 2 times" in (result.reason or "")
    with server.client() as client:
        assert "died 2 times" in client.log_of(result.run_id, "exhaust_memory")


def test_a_cancelled_run_ends_and_takes_its_block_process_with_it(server: Server, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def interrupt_when_running(progress: RunProgress) -> None:
        seen.append(progress)
        if any(each.status is BlockStatus.RUNNING for each in progress.blocks):
            wait_until(lambda: started.exists() and started.read_text() != "", 30, "the block has begun")
            raise KeyboardInterrupt

    seen: list[RunProgress] = []
    with pytest.raises(KeyboardInterrupt):
        run_and_follow(server.mage, "sleepy", {"started_in": str(started)}, interrupt_when_running)

    with server.client() as client:
        run = client.run(seen[-1].run_id)
    assert run.status is RunStatus.CANCELLED
    assert [each.status for each in run.blocks] == [BlockStatus.CANCELLED]
    block_process = int(started.read_text().split()[0])
    wait_until(lambda: not is_running(block_process), 10, "the process of the block is gone")


def test_the_blocks_of_a_run_are_created_by_the_scheduler_alone_and_so_never_twice(server: Server) -> None:
    status = httpx.get(f"{server.mage.base_url}/api/status", trust_env=False).json()["statuses"][0]
    with server.client() as client:
        client.api_trigger("clockwork")
        os.kill(status["scheduler_process_id"], signal.SIGSTOP)
        try:
            run_id = client.trigger("clockwork", {})
            assert client.run(run_id).blocks == ()
        finally:
            os.kill(status["scheduler_process_id"], signal.SIGCONT)
        wait_until(lambda: client.run(run_id).status.ended, 30, "the end of the run")
        assert [each.name for each in client.run(run_id).blocks] == ["note_time"]


def test_an_api_trigger_is_made_once_and_its_token_stays_out_of_project_and_log(server: Server) -> None:
    with server.client() as client, server.client() as another:
        trigger = client.api_trigger("clockwork")
        assert another.api_trigger("clockwork") == trigger
        client.trigger("clockwork", {})

    files = [each for each in server.mage.project.rglob("*") if each.is_file() and ".mage_data" not in each.parts]
    assert files
    assert not [each for each in [*files, server.log] if trigger[1].encode() in each.read_bytes()]


@pytest.mark.parametrize(
    ("start", "end", "kind", "units", "windows"),
    [
        # the interval that begins at the end is included; February is shorter than the month before it
        ("2023-01-01", "2023-02-01", "month", 1, [("2023-01-01", "2023-02-01"), ("2023-02-01", "2023-03-01")]),
        ("2024-02-26", "2024-03-05", "week", 1, [("2024-02-26", "2024-03-04"), ("2024-03-04", "2024-03-11")]),
        ("2024-05-01", "2024-05-01", "day", 2, [("2024-05-01", "2024-05-03")]),
        ("2024-05-01", "2024-05-01", "custom", 86_400, [("2024-05-01", "2024-05-02")]),
    ],
    ids=["months", "weeks", "one interval", "seconds"],
)
def test_each_run_of_a_back_fill_has_its_interval_as_its_window(
    server: Server, start: str, end: str, kind: str, units: int, windows: list[tuple[str, str]]
) -> None:
    with session_of(server) as session:
        runs = start_backfill(
            session, "clockwork", f"{start} 00:00:00", f"{end} 00:00:00", kind, units, variables={"kept": "as it is"}
        )
    found = [(run["variables"]["window_start"], run["variables"]["window_end"]) for run in runs]
    assert found == [(f"{first}T00:00:00+00:00", f"{last}T00:00:00+00:00") for first, last in windows]
    assert {run["variables"]["kept"] for run in runs} == {"as it is"}


def test_a_run_outside_a_back_fill_gets_no_window(server: Server) -> None:
    with server.client() as client, session_of(server) as session:
        run = client.trigger("clockwork", {"use_case": "rides"})
        variables = session.request("GET", f"/api/pipeline_runs/{run}")["pipeline_run"]["variables"]
    assert variables["use_case"] == "rides"
    assert not {"window_start", "window_end"} & set(variables)


def test_a_chart_on_a_dashboard_gets_its_data(server: Server) -> None:
    address = "/api/page_block_layouts/pipelines%2Fclockwork%2Fdashboard"
    with session_of(server) as session:
        layout = session.request("GET", address)["page_block_layout"]["layout"]
        chart = session.request("GET", f"{address}/block_layout_items/weekdays")["block_layout_item"]
    assert layout == [[{"block_uuid": "weekdays", "width": 1}]]
    assert chart["error"] is None
    assert (chart["data"]["x"], chart["data"]["y"]) == (["day", "place"], [["Monday", 1], ["Tuesday", 2]])


def test_a_wrong_password_is_said_to_be_the_login(server: Server) -> None:
    client = MageClient(server.mage.base_url, server.mage.email, "wrong")
    with client, pytest.raises(LoginRefused, match=r"did not accept the login of owner@example\.com"):
        client.triggers()


def test_names_and_numbers_that_do_not_exist_are_named(server: Server) -> None:
    with server.client() as client:
        with pytest.raises(PipelineNotFound, match="no pipeline 'nowhere'"):
            client.trigger("nowhere", {})
        with pytest.raises(RunNotFound, match="knows no run 99999"):
            client.run(99999)


def test_a_taken_port_is_refused_instead_of_moved(server: Server) -> None:
    port = server.mage.base_url.rpartition(":")[2]

    second = subprocess.run(
        server_command(server.mage.project, int(port)),
        env=server.mage.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "PLATFORM_MAGE__PORT" in second.stderr


def test_a_time_trigger_fires_by_itself(server: Server) -> None:
    def every_minute() -> Trigger:
        with server.client() as client:
            return next(each for each in client.triggers() if each.name == "every_minute")

    wait_until(lambda: every_minute().last_run is not None, 75, "a run of the trigger every_minute")
    trigger = every_minute()
    assert (trigger.pipeline, trigger.kind, trigger.interval, trigger.active) == (
        "clockwork",
        "time",
        "* * * * *",
        True,
    )
