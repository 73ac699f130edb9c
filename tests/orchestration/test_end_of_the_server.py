"""Nothing of a Mage server outlives its first process, and the next server goes on with what it had begun."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mage_platform.orchestration.follow import follow, run_and_follow, unfinished_run
from mage_platform.orchestration.process_family import family_members
from mage_platform.orchestration.progress import BlockStatus, RunProgress, RunStatus
from tests.orchestration.real_mage import is_running, serve, start_server, stop, wait_until

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
        everybody = "web, watcher, manager, scheduler, kernel, pool, block, its program"
        wait_until(lambda: len(family_members(mark)) >= 7, 30, everybody)  # the kernel may come after the block
        family = family_members(mark)
        assert program_of_the_block in family

        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()

        wait_until(lambda: not family_members(mark), 10, "every process of the server is gone")
        # one that is on its way out has no environment any more
        wait_until(lambda: not [each for each in family if is_running(each)], 10, "none of them runs")
    finally:
        stop(server)


def test_the_next_server_goes_on_with_a_run_that_a_killed_one_left_and_it_can_be_followed(tmp_path: Path) -> None:
    starts, go_on = tmp_path / "starts", tmp_path / "go_on"
    variables = {"count_starts_in": str(starts), "wait_for": str(go_on)}
    server = start_server(tmp_path)

    def kill_the_server_under_the_running_block(progress: RunProgress) -> None:
        seen.append(progress)
        if any(each.status is BlockStatus.RUNNING for each in progress.blocks):
            wait_until(lambda: starts.exists() and starts.read_text() != "", 30, "the block has begun")
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            raise KeyboardInterrupt  # as the stack does when a service died

    seen: list[RunProgress] = []
    try:
        assert unfinished_run(server.mage, "interrupted") is None
        with pytest.raises(KeyboardInterrupt):  # and not that there is no server any more to cancel the run
            run_and_follow(server.mage, "interrupted", variables, kill_the_server_under_the_running_block)
    finally:
        stop(server)
    run_id = seen[-1].run_id
    assert unfinished_run(server.mage, "interrupted") is None, "there is no server to ask"

    def let_the_second_attempt_end(progress: RunProgress) -> None:
        attempts.extend(each.attempt for each in progress.blocks if each.status is BlockStatus.RUNNING)
        if 2 in attempts:
            go_on.touch()

    attempts: list[int] = []
    server = serve(server.mage, server.log)
    try:
        assert unfinished_run(server.mage, "interrupted") == run_id
        result = follow(server.mage, run_id, let_the_second_attempt_end)

        assert (result.run_id, result.status) == (run_id, RunStatus.COMPLETED)
        assert starts.read_text().count("started") == 2
        assert unfinished_run(server.mage, "interrupted") is None
    finally:
        stop(server)
