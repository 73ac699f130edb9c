"""What the supervisor says about a process that ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mage_platform.errors import ServiceFailed
from mage_platform.local.reporter import SilentReporter
from mage_platform.local.supervisor import Service, Supervisor


def last_words(folder: Path, script: str) -> str:
    """What is said about a service that ends at its start."""

    async def never_ready() -> bool:
        return False

    service = Service(
        name="database", argv=("sh", "-c", script), address="nowhere", ready=never_ready, environment={},
        folder=folder, level=0,
    )  # fmt: skip

    async def start() -> None:
        supervisor = Supervisor(folder, SilentReporter(), lambda service, pid: None)
        try:
            await supervisor.start(service)
        finally:
            await supervisor.stop()

    with pytest.raises(ServiceFailed) as failed:
        asyncio.run(start())
    return str(failed.value)


def test_a_service_that_met_a_full_disk_is_named_with_its_log_and_what_to_do(tmp_path: Path) -> None:
    said = last_words(tmp_path, "echo 'PANIC: could not write to file: No space left on device'; exit 1")
    assert said.startswith(f"database did not start (exit code 1); {tmp_path / 'database.log'} says: PANIC")
    assert "Free some space" in said


def test_other_last_words_give_no_advice_about_the_disk(tmp_path: Path) -> None:
    assert "Free some space" not in last_words(tmp_path, "echo 'FATAL: no such role'; exit 3")
