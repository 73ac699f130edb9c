"""Passwords and keys of the local stack: made up at the first start, kept in files only their owner can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from mage_platform.provisioning.private_files import new_password, read_secret, write_private
from mage_platform.registry.signatures import new_signing_key, with_public_half
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
    signing_key: SecretStr
    """Private key (PEM) that signs model versions."""
    verification_keys: str
    """Public keys (PEM) whose signatures count, that of `signing_key` among them."""


def keep_passwords(settings: Settings) -> Passwords:
    """Read the passwords of this state folder; make up and write those that are missing.

    A password given by the settings wins and is written too, so that every process of the stack finds the same one.
    Where the signing key was replaced, the public half of the new one joins those of the former.

    Raises:
        SettingsInvalid: A file is there and cannot be read, or the signing key is malformed.
    """
    folder = secrets_folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def kept(name: str, given: SecretStr | None = None, make: Callable[[], str] = new_password) -> SecretStr:
        file = folder / name
        written = read_secret(file)
        if given is None and written:
            return SecretStr(written)
        value = given or SecretStr(make())
        if written != value.get_secret_value().strip():
            write_private(file, value.get_secret_value())
        return value

    signing_key = kept("platform_signing_key", settings.signing_key, new_signing_key)
    return Passwords(
        database=kept("platform_database_password", settings.database_password),
        mage_database=kept("platform_mage_database_password", settings.mage_database_password),
        mage_owner=kept("platform_mage_owner_password", settings.mage_owner_password),
        postgres_superuser=kept("postgres_superuser_password"),
        pgbouncer=kept("pgbouncer_password"),
        mage_session_key=kept("mage_session_key"),
        signing_key=signing_key,
        verification_keys=_keep_verification_keys(folder, settings, signing_key),
    )


def _keep_verification_keys(folder: Path, settings: Settings, signing_key: SecretStr) -> str:
    file = folder / "platform_verification_keys"
    written = file.read_text() if file.is_file() else ""
    keys = with_public_half(signing_key.get_secret_value(), settings.verification_keys or written)
    if keys.strip() != written.strip():
        write_private(file, keys)
    return keys


def secrets_folder(settings: Settings) -> Path:
    """Where the local stack keeps its secret files."""
    return settings.state_folder / "secrets"
