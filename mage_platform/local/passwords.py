"""Passwords of the local stack: made up at the first start, kept in files only their owner can read."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from mage_platform.errors import SettingsInvalid
from mage_platform.settings import Settings


@dataclass(frozen=True)
class Passwords:
    """One password for each purpose."""

    database: SecretStr
    mage_database: SecretStr
    mage_owner: SecretStr
    postgres_superuser: SecretStr
    pgbouncer: SecretStr
    mage_session_key: SecretStr


def keep_passwords(settings: Settings) -> Passwords:
    """Read the passwords of this state folder; make up and write those that are missing.

    A password given by the settings wins and is written too, so that every process of the stack finds the same one.

    Raises:
        SettingsInvalid: A file is there and cannot be read.
    """
    folder = secrets_folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def kept(name: str, given: SecretStr | None = None) -> SecretStr:
        file = folder / name
        written = _read(file)
        if given is None and written:
            return SecretStr(written)
        value = given or SecretStr(secrets.token_hex(16))
        if written != value.get_secret_value():
            write_private(file, value.get_secret_value())
        return value

    return Passwords(
        database=kept("platform_database_password", settings.database_password),
        mage_database=kept("platform_mage_database_password", settings.mage_database_password),
        mage_owner=kept("platform_mage_owner_password", settings.mage_owner_password),
        postgres_superuser=kept("postgres_superuser_password"),
        pgbouncer=kept("pgbouncer_password"),
        mage_session_key=kept("mage_session_key"),
    )


def secrets_folder(settings: Settings) -> Path:
    """Where the local stack keeps its secret files."""
    return settings.state_folder / "secrets"


def _read(file: Path) -> str:
    """What the file holds; empty when it is not there."""
    try:
        return file.read_text().strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"the secret file {file} cannot be read ({error}): mend it, or remove it to have a new one made up"
        ) from None


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    draft.replace(file)
