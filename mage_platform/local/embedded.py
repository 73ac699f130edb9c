"""The local stack for the length of a test: in a process of its own, on free ports, in any state folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from mage_platform.errors import ServiceFailed
from mage_platform.local.lookup import find_running
from mage_platform.local.passwords import secrets_folder
from mage_platform.local.ports import free_port
from mage_platform.local.surroundings import setting_variables
from mage_platform.settings import PREFIX, PROJECT, Settings, load_settings

DATABASE_AND_CACHE = ("postgres", "pgbouncer", "valkey")


@contextlib.contextmanager
def running(
    settings: Settings | None = None,
    services: Collection[str] = DATABASE_AND_CACHE,
    *,
    migrate: bool = False,
    free_ports: bool = True,
) -> Iterator[Settings]:
    """Run some services of the stack for as long as the block lasts.

    The stack lives in a helper process that ends when this process does, whichever way that happens.

    Args:
        settings: Ports and state folder. The state folder of this checkout is replaced by a temporary one, so that
            a test can never touch what `make run` keeps.
        services: Names out of `stack.ALL`; PgBouncer is left out where it is not installed.
        migrate: Whether to bring the platform's tables up to date.
        free_ports: Whether to replace the ports by free ones.

    Yields:
        The settings under which the services are reached.

    Raises:
        ServiceFailed: The stack did not start; the message is the stack's own.
    """
    settings = settings or load_settings()
    with contextlib.ExitStack() as leaving:
        if settings.state_folder.absolute() == PROJECT / ".platform":
            folder = leaving.enter_context(tempfile.TemporaryDirectory(prefix="platform-"))
            settings = settings.model_copy(update={"state_folder": Path(folder)})
        if free_ports:
            settings = on_free_ports(settings)
        helper = leaving.enter_context(helper_process(settings, services, migrate=migrate))
        effective = _await_ready(helper, settings)
        yield effective


def on_free_ports(settings: Settings) -> Settings:
    """The same settings with every port replaced by a free one."""
    groups = ("database", "pgbouncer", "redis", "h2o", "mage", "sidecar")
    ports: list[int] = []
    while len(ports) < len(groups):
        port = free_port()
        if all(abs(port - other) > 1 for other in ports):  # H2O takes the next one as well
            ports.append(port)
    moved = {
        group: getattr(settings, group).model_copy(update={"port": port})
        for group, port in zip(groups, ports, strict=True)
    }
    return settings.model_copy(update=moved)


@contextlib.contextmanager
def helper_process(settings: Settings, services: Collection[str], *, migrate: bool) -> Iterator[subprocess.Popen[str]]:
    """The process that supervises; stopped in order at the end of the block."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment |= setting_variables(settings)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    if settings.secrets_folder is None and not secrets_folder(settings).is_dir():
        environment.pop(f"{PREFIX}SECRETS_FOLDER", None)  # the first start makes it
    argv = [sys.executable, "-m", "mage_platform.local.stack_process", ",".join(services), str(int(migrate))]
    helper = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment, process_group=0
    )
    try:
        yield helper
    finally:
        helper.send_signal(signal.SIGTERM)
        try:
            helper.wait(120)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()
        if helper.stdout:
            helper.stdout.close()


def _await_ready(helper: subprocess.Popen[str], settings: Settings) -> Settings:
    assert helper.stdout is not None
    line = helper.stdout.readline()
    answer = json.loads(line) if line else {"failed": "the helper process of the stack ended without a word"}
    effective = find_running(settings) if answer.get("ready") else None
    if effective is None:
        raise ServiceFailed(answer.get("failed", "the stack ended at once"))
    # the pipe must never fill up
    threading.Thread(target=helper.stdout.read, daemon=True).start()
    return effective
