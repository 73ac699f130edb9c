"""Nothing of a Mage server outlives its first process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mage_platform.orchestration.process_family import family_members
from tests.orchestration.real_mage import is_running, start_server, stop, wait_until

pytestmark = pytest.mark.integration


def test_kill_9_of_the_first_process_leaves_no_scheduler_kernel_or_block(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    try:
        started = tmp_path / "started"
        with server.client() as client:
            client.trigger("sleepy", {"started_in": str(started)})
        wait_until(lambda: started.exists() and started.read_text() != "", 30, "the block has begun")
        program_of_the_block = int(started.read_text().split()[1])
        mark = server.mark
        family = family_members(mark)
        assert program_of_the_block in family
        assert len(family) >= 7, "web, watcher, manager, scheduler, kernel, pool, block, its program"

        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()

        wait_until(lambda: not family_members(mark), 10, "every process of the server is gone")
        assert not [each for each in family if is_running(each)]
    finally:
        stop(server)
