"""The Mage server of the local stack: UI, API and scheduler, with its metadata in PostgreSQL."""

from __future__ import annotations

import sys

from mage_platform.local.java import Java
from mage_platform.local.passwords import Passwords
from mage_platform.local.probes import http_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import block_environment
from mage_platform.orchestration.mage_variables import mage_variables, metadata_address
from mage_platform.settings import PROJECT, Settings


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
    known = settings.model_copy(update={"mage_database_password": passwords.mage_database})
    return mage_variables(
        settings,
        database_address=metadata_address(known),
        owner_password=passwords.mage_owner.get_secret_value(),
        session_key=passwords.mage_session_key.get_secret_value(),
    )
