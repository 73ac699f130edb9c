"""What the supervisor says about a process that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mage_platform.settings import PROJECT

# In a process of its own: a supervisor that stops ends every process below its own, and below this one stand the
# servers of the other tests.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from mage_platform.errors import ServiceFailed
from mage_platform.local.reporter import SilentReporter
from mage_platform.local.supervisor import Service, Supervisor

folder, script = Path(sys.argv[1]), sys.argv[2]

async def never_ready():
    return False

async def start():
    supervisor = Supervisor(folder, SilentReporter(), lambda service, pid: None)
    service = Service(
        name="database", argv=("sh", "-c", script), address="nowhere", ready=never_ready, environment={}, folder=folder,
        level=0,
    )
    try:
        await supervisor.start(service)
    finally:
        await supervisor.stop()

try:
    asyncio.run(start())
except ServiceFailed as error:
    print(error)
"""


def last_words(folder: Path, script: str) -> str:
    """What is said about a service that ends at its start."""
    command = [sys.executable, "-c", PROGRAM, str(folder), script]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_service_that_met_a_full_disk_is_named_with_its_log_and_what_to_do(tmp_path: Path) -> None:
    said = last_words(tmp_path, "echo 'PANIC: could not write to file: No space left on device'; exit 1")
    assert said.startswith(f"database did not start (exit code 1); {tmp_path / 'database.log'} says: PANIC")
    assert "Free some space" in said


def test_other_last_words_give_no_advice_about_the_disk(tmp_path: Path) -> None:
    said = last_words(tmp_path, "echo 'FATAL: no such role'; exit 3")
    assert "FATAL: no such role" in said
    assert "Free some space" not in said
