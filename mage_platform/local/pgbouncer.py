"""PgBouncer of the local stack: transaction mode, with the values the technology registry mandates.

No wheel brings its binary, so it is used where it is installed; otherwise the stack connects directly and says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mage_platform.local import child
from mage_platform.local.passwords import Passwords
from mage_platform.local.postgres import HOST
from mage_platform.local.probes import port_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import plain_environment
from mage_platform.provisioning.databases import POOLER
from mage_platform.provisioning.private_files import write_private
from mage_platform.settings import Settings

# each running block holds a connection for its whole run, so Mage gets a pool of its own for blocks, web server
# and scheduler
MAGE_POOL = 40


def find_pgbouncer(settings: Settings) -> Path | None:
    """The binary, or None when it is not installed or switched off."""
    if not settings.pgbouncer.enabled:
        return None
    # distributions put it where the PATH of an ordinary user does not lead
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/sbin:/usr/local/sbin")
    return Path(found) if found else None


def pgbouncer_service(settings: Settings, passwords: Passwords, binary: Path) -> Service:
    """The pooler as a service; writes its configuration. `settings.database.port` is PostgreSQL's own port."""
    folder = settings.state_folder / "pgbouncer"
    folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / "pgbouncer.ini", _configuration(settings, folder))
    write_private(folder / "users.txt", f'"{POOLER}" "{passwords.pgbouncer.get_secret_value()}"\n')
    for each in (folder, folder / "pgbouncer.ini", folder / "users.txt"):
        child.give_to_server(each)
    return Service(
        name="pgbouncer",
        argv=(str(binary), str(folder / "pgbouncer.ini")),
        address=f"{HOST}:{settings.pgbouncer.port}",
        ready=port_answers(HOST, settings.pgbouncer.port),
        environment=plain_environment(settings),
        folder=folder,
        level=1,
        start_timeout_seconds=10,
        # SIGINT waits for clients to leave; at this point nobody is left who matters
        stop_timeout_seconds=5,
        as_nobody=child.is_root(),
    )


def _configuration(settings: Settings, folder: Path) -> str:
    server = f"host={HOST} port={settings.database.port}"
    lines = [
        "[databases]",
        f"{settings.database.name} = {server} dbname={settings.database.name} auth_user={POOLER}",
        f"{settings.mage.database} = {server} dbname={settings.mage.database} auth_user={POOLER} pool_size={MAGE_POOL}",
        "",
        "[pgbouncer]",
        f"listen_addr = {HOST}",
        f"listen_port = {settings.pgbouncer.port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {folder / 'users.txt'}",
        "auth_query = SELECT usename, passwd FROM pgb.get_auth($1)",
        "pool_mode = transaction",
        "max_client_conn = 1000",
        "default_pool_size = 20",
        "reserve_pool_size = 5",
        "query_wait_timeout = 30",
        f"admin_users = {POOLER}",
        # Mage and JDBC send these at the start; roles carry what matters of them (ALTER ROLE)
        "ignore_startup_parameters = extra_float_digits,options",
        "log_connections = 0",
        "log_disconnections = 0",
        "log_stats = 0",
        "",
    ]
    return "\n".join(lines)
