"""One stack for each state folder: the lock, and the note about what runs that other commands read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mage_platform.errors import ServiceFailed
from mage_platform.local import place_of_state, proc
from mage_platform.provisioning.private_files import write_private

_GRACE_SECONDS = 30.0


@dataclass
class ServiceNote:
    """What is written down about one running service."""

    name: str
    pid: int
    started_at: int | None
    """Clock ticks after boot: tells the process from a later one with the same pid."""
    address: str
    log: str


@dataclass
class StackNote:
    """What is written down about the running stack. Never a password."""

    pid: int
    settings: dict[str, Any]
    postgres_port: int
    """PostgreSQL's own port; the settings may hold PgBouncer's."""
    java_home: str | None = None
    services: list[ServiceNote] = field(default_factory=list)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the state folder for as long as the block runs. The kernel frees it on any death.

    Raises:
        ServiceFailed: Another stack holds it, or the folder cannot be used.
    """
    require_usable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / place_of_state.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceFailed(
            f"the state folder {folder} cannot be used ({error.strerror}): mend it, or set PLATFORM_STATE_FOLDER to "
            "another folder"
        ) from error
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        _clear_last_run(folder)
        yield
        (folder / "stack.json").unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def require_usable(folder: Path) -> None:
    """Refuse a folder that is no folder, or that holds somebody else's files.

    Raises:
        ServiceFailed: What is wrong with it, and the setting that cures it.
    """
    try:
        reason = "it is not a folder" if folder.exists() and not folder.is_dir() else place_of_state.why_not(folder)
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ServiceFailed(
            f"the state folder {folder} cannot be used ({reason}): set PLATFORM_STATE_FOLDER to a new folder, or to "
            "none for the default"
        )


def write_note(folder: Path, note: StackNote) -> None:
    """Write down what runs, for other commands of this checkout."""
    write_private(folder / "stack.json", json.dumps(asdict(note), indent=1))


def read_note(folder: Path) -> StackNote | None:
    """What runs on this state folder; None when nothing does, whatever an earlier run left written."""
    if not _is_held(folder):
        return None
    return _parse(folder)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + 0.5  # a command that only looks holds it for an instant
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise ServiceFailed(
                    f"a stack already runs on {folder} (pid {holder}): use it, stop it with kill {holder}, or set "
                    "PLATFORM_STATE_FOLDER and other ports for a second one"
                ) from None
            time.sleep(0.05)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / place_of_state.LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _parse(folder: Path) -> StackNote | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        raw = json.loads((folder / "stack.json").read_text())
        raw["services"] = [ServiceNote(**service) for service in raw["services"]]
        return StackNote(**raw)
    return None


def _clear_last_run(folder: Path) -> None:
    """After a killed supervisor its services are still on their way out: wait for them, then force them."""
    note = _parse(folder)
    deadline = time.monotonic() + _GRACE_SECONDS
    for service in note.services if note else ():
        while proc.is_alive(service.pid, service.started_at):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(service.pid, signal.SIGKILL)
            time.sleep(0.05)
    (folder / "stack.json").unlink(missing_ok=True)
