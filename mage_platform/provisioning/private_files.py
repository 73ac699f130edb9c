"""Secrets in files, one value a file, that only their owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mage_platform.errors import SettingsInvalid


def new_password() -> str:
    """A password that nobody can guess: 128 random bits, in characters that need no quoting anywhere.

    >>> len(new_password())
    32
    """
    return secrets.token_hex(16)


def read_secret(file: Path) -> str:
    """What the file holds, without blanks around it; empty when it is not there.

    Raises:
        SettingsInvalid: It is there and cannot be read.
    """
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
