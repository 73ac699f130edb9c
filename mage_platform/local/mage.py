"""The Mage server of the local stack: UI, API and scheduler, with its metadata in PostgreSQL."""

from __future__ import annotations

import os
import sys
from urllib.parse import quote

from mage_platform.local.java import Java
from mage_platform.local.passwords import Passwords
from mage_platform.local.probes import http_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import block_environment
from mage_platform.settings import PROJECT, Settings

OWNER = "owner"
SCHEDULER_SECONDS = "1.7"  # Mage's default of 10 s costs about that much for each step of a pipeline


def mage_service(settings: Settings, passwords: Passwords, java: Java | None) -> Service:
    """The server as a service. `settings.database` is where everybody connects: PgBouncer where it is used."""
    mage = settings.mage
    argv = [sys.executable, "-m", "mage_platform.orchestration.mage_server", "start", str(PROJECT)]
    return Service(
        name="mage",
        argv=(*argv, "--host", mage.host, "--port", str(mage.port)),
        address=mage.url,
        ready=http_answers(mage.host, mage.port, "/api/status"),
        environment={
            **block_environment(settings),
            **mage_environment(settings, passwords),
            **({"JAVA_HOME": str(java.home)} if java else {}),
        },
        folder=PROJECT,
        level=3,
        start_timeout_seconds=180,
        stop_timeout_seconds=20,
        signal_whole_group=True,  # the web server does not pass the signal on to the scheduler
    )


def mage_environment(settings: Settings, passwords: Passwords) -> dict[str, str]:
    """Mage's own variables, secrets among them: for the environment of a process, never for a log."""
    database = settings.database
    password = quote(passwords.mage_database.get_secret_value(), safe="")
    address = f"{quote(settings.mage.database_user, safe='')}:{password}@{database.host}:{database.port}"
    # relative to the project: Mage appends the project's name to an absolute folder
    data = os.path.relpath(settings.state_folder / "mage", PROJECT)
    return {
        "MAGE_DATABASE_CONNECTION_URL": f"postgresql+psycopg2://{address}/{quote(settings.mage.database, safe='')}",
        "MAGE_DATA_DIR": data,
        "MAGE_REPO_PATH": str(PROJECT),
        "SCHEDULER_TRIGGER_INTERVAL": SCHEDULER_SECONDS,
        "CONCURRENCY_CONFIG_BLOCK_RUN_LIMIT": str(settings.training.parallel_regions),
        "REQUIRE_USER_AUTHENTICATION": "1",
        "DEFAULT_OWNER_EMAIL": settings.mage.owner_email,
        "DEFAULT_OWNER_USERNAME": OWNER,
        "DEFAULT_OWNER_PASSWORD": passwords.mage_owner.get_secret_value(),
        "JWT_SECRET": passwords.mage_session_key.get_secret_value(),
        "HELP_IMPROVE_MAGE": "false",
        "GE_USAGE_STATS": "FALSE",
        "DO_NOT_TRACK": "1",
    }
