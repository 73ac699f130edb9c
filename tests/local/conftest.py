"""Stacks of real servers, each on free ports and a state folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mage_platform.local.embedded import on_free_ports, running
from mage_platform.local.surroundings import setting_variables
from mage_platform.settings import PREFIX, PROJECT, Settings, load_settings

UP = """
import sys, time
from mage_platform.local.stack import run_stack
from mage_platform.settings import load_settings

def on_ready(settings):
    print("up", flush=True)
    try:
        while True:
            time.sleep(0.05)
    finally:
        print("work interrupted", flush=True)

sys.exit(run_stack(load_settings(), services=sys.argv[1].split(","), on_ready=on_ready, migrate=False))
"""


class Up:
    """A stack started as a command starts it, with everything it prints."""

    def __init__(self, settings: Settings, services: str, *, prefix: tuple[str, ...] = (), **popen: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {**setting_variables(settings), "PYTHONPATH": str(PROJECT)}
        argv = [*prefix, sys.executable, "-c", UP, services]
        self.settings = settings
        self.output = settings.state_folder.parent / f"{settings.state_folder.name}.{time.monotonic_ns()}.out"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                popen.pop("argv", argv),  # type: ignore[call-overload]
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
                env={**environment, **popen.pop("environment", {})},  # type: ignore[dict-item]
                **popen,
            )

    @property
    def said(self) -> str:
        """Everything printed so far."""
        return self.output.read_text()

    def await_up(self) -> Up:
        """Wait until every service is ready."""
        wait_until(lambda: "up\n" in self.said or self.process.poll() is not None, 60)
        assert "up\n" in self.said, self.said
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    """Poll until the condition holds, and fail when it does not within the seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def await_gone(folder: Path) -> None:
    """Wait until no process works in a state folder any more, and name those that stay."""
    deadline = time.monotonic() + 15
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def processes_of(folder: Path) -> dict[int, str]:
    """Processes that work in a state folder or were started with it in their command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = str((entry / "cwd").readlink())
        except OSError:
            continue
        if command and (str(folder) in command or place.startswith(str(folder))):
            found[int(entry.name)] = command
    return found


@pytest.fixture(scope="session")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose first start is done; tests copy it, because a first start takes two seconds."""
    folder = tmp_path_factory.mktemp("started-once") / "state"
    with running(load_settings(state_folder=folder), ("postgres",)):
        pass
    # killed processes lose nothing by it, only a machine without power would; and the tests take half the time
    with (folder / "postgres" / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("fsync = off\n")
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    """Settings on free ports and a state folder that does not exist yet."""
    return on_free_ports(load_settings(state_folder=tmp_path / "state"))


@pytest.fixture
def settings(tmp_path: Path, started_once: Path) -> Settings:
    """Settings on free ports and a state folder that was started before."""
    folder = tmp_path / "started-before"
    shutil.copytree(started_once, folder)
    return on_free_ports(load_settings(state_folder=folder))


@pytest.fixture
def up(settings: Settings) -> Iterator[Callable[..., Up]]:
    """Start stacks that are ended with the test, whatever happens."""
    started: list[Up] = []

    def start(services: str, of: Settings = settings, **more: object) -> Up:
        started.append(Up(of, services, **more))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for stack in reversed(started):
        stack.end()
    for stack in started:
        await_gone(stack.settings.state_folder)
