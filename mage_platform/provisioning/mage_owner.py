"""The Mage owner's login follows its secret: Mage itself reads the secret at its first start only.

Mage's own owner, whose password everybody knows, arises where Mage was once started without a secret. It is locked.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from pathlib import Path

import bcrypt
import psycopg
from pydantic import SecretStr

from mage_platform.database import Queries
from mage_platform.provisioning.superuser import Superuser
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_suffix(".sql"))
ROUNDS = 14  # Mage's own
WELL_KNOWN_OWNER, WELL_KNOWN_PASSWORD = "admin@admin.com", "admin"
"""Mage makes this login when it is told of no other."""


class OwnerLogin(StrEnum):
    """How the owner's login stands to its secret."""

    NOT_YET = "not_yet"
    """Mage has made no tables: it makes the login at its first start, from the secret."""
    MISSING = "missing"
    """Mage has logins, and this one is not among them."""
    RIGHT = "right"
    """It had the password already."""
    MENDED = "mended"
    """It has the password now."""


def mend_owner_login(settings: Settings, superuser: Superuser, password: SecretStr) -> OwnerLogin:
    """Give the owner the password of the secret.

    Raises:
        psycopg.Error: PostgreSQL did not answer, or refused something.
    """
    email, secret = settings.mage.owner_email, password.get_secret_value()
    with superuser.connect(settings.mage.database) as connection:
        if not _has_logins(connection):
            return OwnerLogin.NOT_YET
        stored = _stored_hash(connection, email)
        if stored is None:
            return OwnerLogin.MISSING
        if bcrypt.checkpw(secret.encode(), stored):
            return OwnerLogin.RIGHT
        _replace_password(connection, email, secret)
        return OwnerLogin.MENDED


def lock_well_known_owner(settings: Settings, superuser: Superuser) -> bool:
    """Take the password that everybody knows from the owner that Mage made up.

    Returns:
        Whether there was such a login with that password.

    Raises:
        psycopg.Error: PostgreSQL did not answer, or refused something.
    """
    with superuser.connect(settings.mage.database) as connection:
        stored = _stored_hash(connection, WELL_KNOWN_OWNER) if _has_logins(connection) else None
        if stored is None or not bcrypt.checkpw(WELL_KNOWN_PASSWORD.encode(), stored):
            return False
        _replace_password(connection, WELL_KNOWN_OWNER, secrets.token_hex(32))
        return True


def _has_logins(connection: psycopg.Connection) -> bool:
    return connection.execute(QUERIES.has_logins).fetchone() == (True,)


def _stored_hash(connection: psycopg.Connection, email: str) -> bytes | None:
    found = connection.execute(QUERIES.stored_hash, {"email": email}).fetchone()
    return found[0].encode() if found and found[0] else None


def _replace_password(connection: psycopg.Connection, email: str, password: str) -> None:
    salt = bcrypt.gensalt(ROUNDS)
    hashed = bcrypt.hashpw(password.encode(), salt)
    connection.execute(QUERIES.replace_hash, {"email": email, "hash": hashed.decode(), "salt": salt.decode()})
