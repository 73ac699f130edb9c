"""Runs that drive Mage's scheduler in a process of their own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from mage_platform.orchestration.follow import MageAddress, run_and_follow
from mage_platform.orchestration.progress import RunProgress, RunStatus
from mage_platform.orchestration.refusals import PipelineNotFound
from tests.orchestration.real_mage import is_running, wait_until

pytestmark = pytest.mark.integration


def test_a_fan_out_runs_without_a_server(mage_without_server: MageAddress, tmp_path: Path) -> None:
    written = tmp_path / "candidates.json"
    variables = {"factor": 2, "write_to": str(written)}
    seen: list[RunProgress] = []

    result = run_and_follow(mage_without_server, "fan_out", variables, seen.append)

    assert result.status is RunStatus.COMPLETED, result
    assert [each["region"] for each in json.loads(written.read_text())] == ["EWR", "JFK", "LGA"]
    assert seen[0].steps_ended == 0
    assert seen[-1].steps_ended == len(seen[-1].steps) == 5
    log = mage_without_server.log_file
    assert log is not None
    assert (
        "a block prints what it likes"
        in "".join(each.read_text() for each in mage_without_server.project.rglob("*.log")) + log.read_text()
    )


def test_ctrl_c_cancels_the_run_and_ends_what_its_block_started(
    mage_without_server: MageAddress, tmp_path: Path
) -> None:
    started = tmp_path / "started"

    def interrupt_when_running(progress: RunProgress) -> None:
        if progress.blocks[0].status == "running":
            wait_until(lambda: started.exists() and started.read_text() != "", 20, "the block has begun")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_and_follow(mage_without_server, "sleepy", {"started_in": str(started)}, interrupt_when_running)

    assert not [each for each in started.read_text().split() if is_running(int(each))]
    metadata = mage_without_server.project / ".mage_data" / "mage-ai.db"
    with contextlib.closing(sqlite3.connect(metadata)) as database:
        assert database.execute("SELECT status FROM pipeline_run").fetchall() == [("CANCELLED",)]
        assert database.execute("SELECT status FROM block_run").fetchall() == [("CANCELLED",)]


def test_an_unknown_pipeline_is_named_along_with_the_known_ones(mage_without_server: MageAddress) -> None:
    with pytest.raises(PipelineNotFound, match=r"no pipeline 'nowhere'.*clockwork, fan_out, interrupted, killed"):
        run_and_follow(mage_without_server, "nowhere", {}, lambda progress: None)
