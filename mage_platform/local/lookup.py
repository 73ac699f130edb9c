"""What runs on a state folder, and how it is reached: for other commands of the checkout, and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mage_platform.local import postgres, proc, state_folder
from mage_platform.local.passwords import Passwords, keep_passwords, secrets_folder
from mage_platform.local.state_folder import ServiceNote
from mage_platform.settings import Settings

ALL = ("postgres", "pgbouncer", "valkey", "h2o", "mage", "sidecar")
"""Every service, in the order of starting."""


@dataclass(frozen=True)
class ServiceStatus:
    """How one service of the stack is doing."""

    name: str
    pid: int | None
    address: str
    up: bool
    memory_mib: float
    """Memory of the process and its descendants, shared pages counted once (PSS)."""
    log: Path | None = None


def find_running(settings: Settings) -> Settings | None:
    """Settings under which the stack of this state folder is reached, or None when none runs."""
    settings = with_absolute_folder(settings)
    note = state_folder.read_note(settings.state_folder)
    if note is None:
        return None
    passwords = keep_passwords(settings.model_copy(update=dict.fromkeys(_KEPT_ON_FILE)))
    running = Settings(**note.settings)
    return running.model_copy(update=_passwords(passwords))


def direct_database(settings: Settings) -> Settings:
    """Settings that reach PostgreSQL of the running stack past PgBouncer; for maintenance and tests only."""
    note = state_folder.read_note(with_absolute_folder(settings).state_folder)
    if note is None:
        return settings
    update = {"host": postgres.HOST, "port": note.postgres_port, "through_pgbouncer": False}
    return settings.model_copy(update={"database": settings.database.model_copy(update=update)})


def status(settings: Settings) -> list[ServiceStatus]:
    """How each service of the stack is doing, in the order of starting; all down when none runs."""
    note = state_folder.read_note(with_absolute_folder(settings).state_folder)
    services = {service.name: service for service in note.services} if note else {}
    return [_status(name, services.get(name)) for name in ALL]


def effective_settings(settings: Settings, passwords: Passwords, *, through_pgbouncer: bool) -> Settings:
    """Settings under which the stack is reached: passwords filled in, PgBouncer's port where it is used."""
    database = {"host": postgres.HOST, "through_pgbouncer": through_pgbouncer}
    if through_pgbouncer:
        database["port"] = settings.pgbouncer.port
    update = {
        "database": settings.database.model_copy(update=database),
        "secrets_folder": secrets_folder(settings),
        **_passwords(passwords),
    }
    return settings.model_copy(update=update)


def with_absolute_folder(settings: Settings) -> Settings:
    """The same settings; the state folder no longer depends on the working folder."""
    return settings.model_copy(update={"state_folder": settings.state_folder.absolute()})


_KEPT_ON_FILE = (
    "database_password", "mage_database_password", "mage_owner_password", "redis_password", "h2o_password",
    "signing_key", "verification_keys",
)  # fmt: skip


def _passwords(passwords: Passwords) -> dict[str, object]:
    return {
        "database_password": passwords.database,
        "mage_database_password": passwords.mage_database,
        "mage_owner_password": passwords.mage_owner,
        "redis_password": passwords.redis,
        "h2o_password": passwords.h2o,
        "signing_key": passwords.signing_key,
        "verification_keys": passwords.verification_keys,
    }


def _status(name: str, note: ServiceNote | None) -> ServiceStatus:
    if note is None or not proc.is_alive(note.pid, note.started_at):
        return ServiceStatus(name, None, note.address if note else "", up=False, memory_mib=0.0)
    memory = proc.memory_mib(note.pid)
    return ServiceStatus(name, note.pid, note.address, up=True, memory_mib=memory, log=Path(note.log))
