"""A tiny Mage project, and a real Mage server that serves it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mage_platform.local.ports import free_port
from mage_platform.orchestration.client import MageClient
from mage_platform.orchestration.follow import MageAddress
from mage_platform.orchestration.mage_session import MageSession
from mage_platform.orchestration.process_family import MARK

EMAIL = "owner@example.com"
PASSWORD = "a-password-of-the-tests"
PROJECT = Path(__file__).parent / "project"
START_WITHIN_SECONDS = 150.0


@dataclass(frozen=True)
class Server:
    """A Mage server of the tests."""

    process: subprocess.Popen[bytes]
    mage: MageAddress
    log: Path

    @property
    def mark(self) -> str:
        """The mark that its whole family of processes carries."""
        variables = Path(f"/proc/{self.process.pid}/environ").read_bytes().split(b"\0")
        return next(each for each in variables if each.startswith(f"{MARK}=".encode())).decode().partition("=")[2]

    def client(self) -> MageClient:
        return MageClient(self.mage.base_url, self.mage.email, self.mage.password)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look until something is so; fail with the words for it when it is not so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def environment_of_tests(home: Path) -> dict[str, str]:
    """An environment in which Mage keeps everything in the project (metadata in SQLite) and nothing in the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAGE", "PLATFORM", "DEFAULT_"))}
    return {
        **kept,
        "HOME": str(home),
        "MAGE_DATA_DIR": ".mage_data",
        "DEFAULT_OWNER_EMAIL": EMAIL,
        "DEFAULT_OWNER_PASSWORD": PASSWORD,
        "DEFAULT_OWNER_USERNAME": "owner",
        "JWT_SECRET": "a-secret-of-the-tests",
    }


def mage_of_tests(folder: Path, port: int) -> MageAddress:
    project = folder / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return MageAddress(
        base_url=f"http://127.0.0.1:{port}",
        email=EMAIL,
        password=PASSWORD,
        project=project,
        environment=environment_of_tests(folder),
        log_file=folder / "headless.log",
    )


def server_command(project: Path, port: int) -> list[str]:
    """The command line of a server."""
    program = [sys.executable, "-m", "mage_platform.orchestration.mage_server", "start", str(project)]
    return [*program, "--host", "127.0.0.1", "--port", str(port)]


def start_server(folder: Path) -> Server:
    return serve(mage_of_tests(folder, free_port()), folder / "server.log")


def serve(mage: MageAddress, log: Path) -> Server:
    """Start a server on a project, be it the first or a later one."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            server_command(mage.project, int(mage.base_url.rpartition(":")[2])),
            env=mage.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, mage, log)
    with server.client() as client:
        deadline = time.monotonic() + START_WITHIN_SECONDS
        while not client.is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                stop(server)
                pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")
            time.sleep(0.3)
    return server


def stop(server: Server) -> None:
    if server.process.poll() is None:
        os.killpg(server.process.pid, signal.SIGTERM)
    server.process.wait(timeout=10)


def start_backfill(
    session: MageSession,
    pipeline: str,
    start: str,
    end: str,
    interval_type: str,
    interval_units: int,
    *,
    variables: dict[str, Any],
) -> list[dict[str, Any]]:
    """Make and start a back-fill as the UI does; its runs, by interval."""
    asked = {
        "name": f"{start} to {end} by {interval_units} {interval_type}",
        "start_datetime": start,
        "end_datetime": end,
        "interval_type": interval_type,
        "interval_units": interval_units,
        "variables": variables,
    }
    made = session.request("POST", f"/api/pipelines/{pipeline}/backfills", {"backfill": asked})["backfill"]
    session.request("PUT", f"/api/backfills/{made['id']}", {"backfill": {"status": "initial"}})
    found = session.request("GET", "/api/pipeline_runs", parameters={"backfill_id": str(made["id"])})
    return sorted(found["pipeline_runs"], key=lambda run: str(run["execution_date"]))


def is_running(process: int) -> bool:
    """Whether a process runs; a dead one that its parent has not noticed yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
