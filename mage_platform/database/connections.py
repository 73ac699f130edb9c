"""Connections for one unit of work each, fit for PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from mage_platform.errors import DatabaseUnavailable
from mage_platform.settings import Settings

Connection = psycopg.Connection[Any]


@contextmanager
def connect(settings: Settings, *, application_name: str = "mage_platform") -> Iterator[Connection]:
    """A connection whose work is committed at the end of the block, or rolled back on an error.

    Server-side prepared statements are off, and nothing may be kept in the session: behind PgBouncer the next
    transaction may run on another server connection.

    Raises:
        DatabaseUnavailable: The server refused, or went away in between.
    """
    database = settings.database
    password = settings.database_password
    try:
        connection = psycopg.connect(
            host=database.host,
            port=database.port,
            dbname=database.name,
            user=database.user,
            password=password.get_secret_value() if password else None,
            connect_timeout=max(2, round(database.connect_timeout_seconds)),
            application_name=application_name,
            prepare_threshold=None,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(_sentence(settings, error)) from error
    committing = False
    with connection:
        try:
            yield connection
            committing = True
            connection.commit()
        except psycopg.Error as error:
            # Asked here, because leaving the outer block closes the connection. A server that dies may leave two
            # results where BEGIN or COMMIT expects one, which psycopg calls an internal error, not an operational one.
            lost = connection.broken or (committing and isinstance(error, psycopg.OperationalError))
            if lost:
                raise DatabaseUnavailable(_sentence(settings, error)) from error
            raise


def _sentence(settings: Settings, error: psycopg.Error) -> str:
    database = settings.database
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    cure = (
        "Check that PgBouncer and PostgreSQL run, and PLATFORM_DATABASE__*; a new PostgreSQL needs "
        "`mage-platform database provision` first"
        if settings.environment == "production"
        else "Start the local stack with `make run`, or check PLATFORM_DATABASE__*"
    )
    return (
        f"PostgreSQL at {database.host}:{database.port} (database {database.name}, role {database.user}) "
        f"did not answer: {cause}. {cure}"
    )
