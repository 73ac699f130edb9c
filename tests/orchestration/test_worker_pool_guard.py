"""The guard against jobs that nobody runs, on Mage's real queue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mage_platform.orchestration.follow import MageAddress
from mage_platform.orchestration.project_environment import project_environment

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("how_the_pool_ends", ["quietly", "holding_the_lock"])
def test_a_job_stranded_by_the_end_of_the_worker_pool_is_run_after_all(
    mage_without_server: MageAddress, tmp_path: Path, how_the_pool_ends: str
) -> None:
    program = Path(__file__).with_name("stranded_job.py")
    assert mage_without_server.environment is not None

    ended = subprocess.run(
        [sys.executable, str(program), str(mage_without_server.project), how_the_pool_ends, str(tmp_path / "done")],
        env=project_environment(mage_without_server.project, mage_without_server.environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )

    assert json.loads(ended.stderr.splitlines()[-1]) == {"left_alone": True, "done": True}


def test_a_job_is_run_when_it_comes_and_not_when_the_pool_happens_to_look(
    mage_without_server: MageAddress, tmp_path: Path
) -> None:
    """Six jobs, each put into the queue when the one before it is done, in a pool that looks by itself every 1000 s."""
    program = Path(__file__).with_name("prompt_jobs.py")
    assert mage_without_server.environment is not None
    ended = subprocess.run(
        [sys.executable, str(program), str(mage_without_server.project), str(tmp_path)],
        env=project_environment(mage_without_server.project, mage_without_server.environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert [line for line in ended.stderr.splitlines() if line.startswith('{"pools"')] == ['{"pools": 1}'], ended.stderr
