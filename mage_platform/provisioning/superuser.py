"""The way to PostgreSQL itself, as its superuser: to set the server up, never for work.

Roles and databases cannot be made through PgBouncer: it lets no superuser in, and cannot let anybody in before its
look-up of logins is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from pydantic import SecretStr

from mage_platform.errors import DatabaseUnavailable, SettingsInvalid

LOOK_EVERY_SECONDS = 1.0
SECRET = "postgres_superuser_password"
"""Name of the secret file with the superuser's password."""


@dataclass(frozen=True)
class Superuser:
    """Where PostgreSQL listens, and who may do anything there."""

    host: str
    port: int
    user: str
    password: SecretStr

    @property
    def address(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection past PgBouncer.

        Raises:
            psycopg.OperationalError: PostgreSQL did not answer, or refused.
        """
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database,
            user=self.user,
            password=self.password.get_secret_value(),
            connect_timeout=5,
            application_name="provisioning",
        )


def await_postgres(superuser: Superuser, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until PostgreSQL lets the superuser in.

    Args:
        superuser: Who, and where.
        seconds: How long at most; with 0 it is tried once.
        tell: Told once why there is something to wait for.

    Raises:
        DatabaseUnavailable: It did not answer in time.
        SettingsInvalid: It answers, and the password is not the superuser's, which no waiting mends.
    """
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        try:
            superuser.connect().close()
            return
        except psycopg.OperationalError as error:
            said = _first_line(error)
        if "authentication failed" in said:
            raise SettingsInvalid(
                f"PostgreSQL at {superuser.address} refuses the password of {superuser.user}: the secret file {SECRET} "
                "has to hold the one the server was made with",
                field=SECRET,
            )
        if time.monotonic() >= deadline:
            raise DatabaseUnavailable(
                f"PostgreSQL at {superuser.address} did not answer{_within(seconds)}: {said}. Check that it runs, that "
                "PLATFORM_PROVISIONING__HOST and PLATFORM_PROVISIONING__PORT name it, and that a NetworkPolicy lets "
                "this pod through"
            )
        if not told:
            told = said
            tell(f"waiting for PostgreSQL at {superuser.address}, at most {seconds:.0f} s: {said}")
        time.sleep(LOOK_EVERY_SECONDS)


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _within(seconds: float) -> str:
    return f" within {seconds:.0f} s" if seconds else ""
