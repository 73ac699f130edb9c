"""The Mage owner's login follows its secret, once for each secret.

A password that was changed in Mage's UI stays, until the secret is another one than at the last start.
"""

from __future__ import annotations

import hashlib

import psycopg

from mage_platform.errors import ServiceFailed
from mage_platform.local.passwords import Passwords
from mage_platform.local.postgres import superuser
from mage_platform.provisioning.mage_owner import OwnerLogin, mend_owner_login
from mage_platform.provisioning.private_files import write_private
from mage_platform.settings import Settings


def mend_owner_password(settings: Settings, passwords: Passwords) -> bool:
    """Give the owner the password on file when the secret was lost or replaced since the last start.

    Returns:
        True when the login was changed.

    Raises:
        ServiceFailed: PostgreSQL refused it.
    """
    mark = settings.state_folder / "mage_owner_password.sha256"
    fingerprint = hashlib.sha256(passwords.mage_owner.get_secret_value().encode()).hexdigest()
    if mark.is_file() and mark.read_text() == fingerprint:
        return False
    try:
        outcome = mend_owner_login(settings, superuser(settings, passwords), passwords.mage_owner)
    except psycopg.Error as error:
        raise ServiceFailed(f"the login of {settings.mage.owner_email} cannot be mended: {error}") from error
    write_private(mark, fingerprint)
    return outcome is OwnerLogin.MENDED
