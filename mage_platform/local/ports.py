"""Checks before anything starts: are the ports free, is there room on the disk."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mage_platform.errors import PortTaken, ServiceFailed
from mage_platform.local import proc
from mage_platform.settings import Settings

FIRST_START_BYTES = 3 * 1024**3
LATER_START_BYTES = 512 * 1024**2


class PortNeed(NamedTuple):
    """A port somebody is going to listen on."""

    service: str
    host: str
    port: int
    setting: str


def needed_ports(settings: Settings, services: Collection[str]) -> list[PortNeed]:
    """Every port the given services listen on, with the setting that moves it."""
    local = "127.0.0.1"
    needs = [
        PortNeed("postgres", local, settings.database.port, "PLATFORM_DATABASE__PORT"),
        PortNeed("pgbouncer", local, settings.pgbouncer.port, "PLATFORM_PGBOUNCER__PORT"),
        PortNeed("valkey", local, settings.redis.port, "PLATFORM_REDIS__PORT"),
        PortNeed("h2o", local, settings.h2o.port, "PLATFORM_H2O__PORT"),
        PortNeed("h2o", local, settings.h2o.port + 1, "PLATFORM_H2O__PORT"),
        PortNeed("mage", settings.mage.host, settings.mage.port, "PLATFORM_MAGE__PORT"),
        PortNeed("sidecar", settings.sidecar.host, settings.sidecar.port, "PLATFORM_SIDECAR__PORT"),
    ]
    return [need for need in needs if need.service in services]


def require_free(needs: list[PortNeed]) -> None:
    """Refuse to start while somebody listens on a needed port, or two services need the same one.

    Raises:
        PortTaken: Names the port, who needs it, who holds it and the setting that cures it.
    """
    seen: dict[int, PortNeed] = {}
    for need in needs:
        if (other := seen.setdefault(need.port, need)) is not need:
            raise PortTaken(
                f"port {need.port} is needed by {other.service} and by {need.service}: give one of them another, "
                f"for example {need.setting}={free_port()} make run",
                field=need.setting,
            )
        reason = _refusal(need)
        if reason:
            raise PortTaken(
                f"port {need.port} for {need.service} {reason}: stop it, or choose another port, "
                f"for example {need.setting}={free_port()} make run",
                field=need.setting,
            )


def require_room(folder: Path, *, first_start: bool) -> None:
    """Refuse to start when the disk of the state folder is nearly full.

    Raises:
        ServiceFailed: Names the folder, what is free and what is needed.
    """
    needed = FIRST_START_BYTES if first_start else LATER_START_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ServiceFailed(
            f"only {free / 1024**3:.1f} GiB are free on the disk of {folder} and {needed / 1024**3:.1f} GiB are "
            "needed: free some, or set PLATFORM_STATE_FOLDER to a folder on another disk"
        )


def free_port() -> int:
    """A port nobody listens on at this moment, with its successor free as well (H2O takes two).

    Nobody else is given it for the next minute: a connection to it has just been closed from its own side, so that the
    kernel keeps it back from all but those who ask for it by its number, as servers do.
    """
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe, socket.create_connection(probe.getsockname()):
            probe.accept()[0].close()
            port = int(probe.getsockname()[1])
        if port < 65535 and not _refusal(PortNeed("", "127.0.0.1", port + 1, "")):
            return port


def _refusal(need: PortNeed) -> str:
    with socket.socket(socket.AF_INET6 if ":" in need.host else socket.AF_INET) as probe:
        # without it, connections of the last run that still linger would count as taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((need.host, need.port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                holder = proc.listener_on(need.port)
                return f"is taken by {holder[1]} (pid {holder[0]})" if holder else "is taken by another process"
            return f"cannot be opened on {need.host} ({error.strerror})"
    return ""
