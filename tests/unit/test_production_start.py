"""In production nothing starts that would connect to PostgreSQL past PgBouncer: command, sidecar or block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mage_platform.settings import PREFIX, PROJECT

REFUSAL = (
    "production refuses direct PostgreSQL connections: point PLATFORM_DATABASE__HOST and PLATFORM_DATABASE__PORT at "
    "PgBouncer and set PLATFORM_DATABASE__THROUGH_PGBOUNCER=true"
)
BLOCK = """
import runpy
block = runpy.run_path("data_loaders/plan_regions.py", init_globals={"data_loader": lambda function: function})
block["plan_regions"](use_case="flight_delays")
"""


def _start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment |= {"PLATFORM_ENVIRONMENT": "production", "PLATFORM_STATE_FOLDER": str(folder / "state")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [
        (["-m", "mage_platform", "status"], "error: "),
        (["-m", "mage_platform", "models", "list"], "error: "),
        (["-m", "mage_platform", "run", "ingest_features"], "error: "),
        (["-m", "serving"], "the sidecar cannot start: "),
    ],
    ids=["status", "models list", "run", "sidecar"],
)
def test_a_command_says_so_in_one_line_and_ends_with_2(tmp_path: Path, arguments: list[str], prefix: str) -> None:
    done = _start(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{prefix}{REFUSAL}\n")


def test_a_block_fails_with_the_same_sentence(tmp_path: Path) -> None:
    done = _start(tmp_path, "-c", BLOCK)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith(f"mage_platform.errors.SettingsInvalid: {REFUSAL}")
