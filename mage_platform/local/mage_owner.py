"""The Mage owner's login follows its secret: Mage itself reads the secret at its first start only.

A password that was changed in Mage's UI stays, until the secret is another one than at the last start.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import bcrypt
import psycopg

from mage_platform.database import Queries
from mage_platform.errors import ServiceFailed
from mage_platform.local.passwords import Passwords, write_private
from mage_platform.local.postgres import superuser_connection
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_suffix(".sql"))
ROUNDS = 14  # Mage's own


def mend_owner_password(settings: Settings, passwords: Passwords) -> bool:
    """Give the owner the password on file when the secret was lost or replaced since the last start.

    Returns:
        True when the login was changed.

    Raises:
        ServiceFailed: PostgreSQL refused it.
    """
    mark = settings.state_folder / "mage_owner_password.sha256"
    password = passwords.mage_owner.get_secret_value().encode()
    fingerprint = hashlib.sha256(password).hexdigest()
    if mark.is_file() and mark.read_text() == fingerprint:
        return False
    try:
        changed = _mend(settings, passwords, password)
    except psycopg.Error as error:
        raise ServiceFailed(f"the login of {settings.mage.owner_email} cannot be mended: {error}") from error
    write_private(mark, fingerprint)
    return changed


def _mend(settings: Settings, passwords: Passwords, password: bytes) -> bool:
    email = settings.mage.owner_email
    with superuser_connection(settings, passwords, settings.mage.database) as connection:
        if connection.execute(QUERIES.has_logins).fetchone() != (True,):
            return False
        found = connection.execute(QUERIES.stored_hash, {"email": email}).fetchone()
        if found is None or bcrypt.checkpw(password, found[0].encode()):
            return False
        salt = bcrypt.gensalt(ROUNDS)
        hashed = bcrypt.hashpw(password, salt)
        connection.execute(QUERIES.replace_hash, {"email": email, "hash": hashed.decode(), "salt": salt.decode()})
        return True
