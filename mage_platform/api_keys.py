"""API keys of the prediction API: made, and kept as hashes in the secret file `platform_api_keys`.

A key is 32 random bytes, so nobody can guess one from its hash and a single SHA-256 is enough: slow hashes such as
bcrypt are there for what people make up themselves, and would cost each request a tenth of a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from mage_platform.contracts.keys import ApiKey, ApiKeys, Right
from mage_platform.errors import ContractViolated, NotFound, SettingsInvalid
from mage_platform.settings import Settings, secret_file

PREFIX = "mp_"
"""With it a key that went astray is recognised in a log or a repository."""
MOST_BYTES = 16 << 20


def new_key() -> str:
    """A key that nobody had before.

    >>> len(new_key()), new_key()[:3]
    (46, 'mp_')
    """
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is kept of a key.

    >>> digest_of("abc")
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    """
    return hashlib.sha256(key.encode()).hexdigest()


def keys_file(settings: Settings) -> Path:
    """Where the keys of this deployment are kept."""
    return secret_file(settings, "platform_api_keys")


def own_key_file(settings: Settings) -> Path:
    """Where the key lies that the platform's own commands send."""
    return secret_file(settings, "platform_api_key")


def own_headers(settings: Settings) -> dict[str, str]:
    """Headers with which the platform's own commands ask the sidecar: the key of the secret `platform_api_key`.

    Raises:
        SettingsInvalid: The file is there and cannot be read.
    """
    file = own_key_file(settings)
    try:
        key = file.read_text(encoding="ascii").strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError):
        raise SettingsInvalid(
            f"the secret file {file} cannot be read: write an API key into it, or remove it"
        ) from None
    return {"authorization": f"Bearer {key}"} if key else {}


def read_keys(file: Path) -> ApiKeys | None:
    """The keys of a file; None when there is no such file.

    Raises:
        SettingsInvalid: It cannot be read, or does not hold keys. The message never holds a value of the file.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsInvalid(f"the key file {file} cannot be read: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise SettingsInvalid(f"the key file {file} is longer than {MOST_BYTES} bytes")
    try:
        return ApiKeys.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(
            f"the key file {file} is not right: {where + ': ' if where else ''}{first['msg']}"
        ) from None


def create_key(
    file: Path,
    name: str,
    *,
    use_cases: tuple[str, ...],
    right: Right = "read",
    expires: datetime | None = None,
    requests_per_second: float | None = None,
    burst: int | None = None,
) -> tuple[str, ApiKey]:
    """Make a key and write its hash into a file, which is made when there is none.

    Returns:
        The key, which is nowhere kept, and what is kept of it.

    Raises:
        ContractViolated: A value does not fit, or there is a key of this name.
    """
    key = new_key()
    try:
        kept = ApiKey(
            name=name,
            sha256=digest_of(key),
            use_cases=use_cases,
            right=right,
            created=datetime.now(UTC).replace(microsecond=0),
            expires=expires,
            requests_per_second=requests_per_second,
            burst=burst,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ContractViolated(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from None

    def added(keys: ApiKeys) -> ApiKeys:
        if any(each.name == name for each in keys.keys):
            raise ContractViolated(f"there is a key {name!r} in {file}: revoke it first, or choose another name")
        return ApiKeys(keys=(*keys.keys, kept))

    _change(file, added)
    return key, kept


def revoke_key(file: Path, name: str) -> ApiKey:
    """Take a key out of a file.

    Raises:
        NotFound: There is none of this name.
    """
    gone: list[ApiKey] = []

    def without(keys: ApiKeys) -> ApiKeys:
        gone.extend(key for key in keys.keys if key.name == name)
        if not gone:
            known = ", ".join(repr(key.name) for key in keys.keys) or "none"
            raise NotFound(f"there is no key {name!r} in {file}; there are: {known}")
        return ApiKeys(keys=tuple(key for key in keys.keys if key.name != name))

    _change(file, without)
    return gone[0]


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all.

    Raises:
        SettingsInvalid: It cannot be written, as a secret that Kubernetes mounts.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError as error:
        raise SettingsInvalid(
            f"{file} cannot be written ({error.strerror}): name another with --file, and bring it there yourself"
        ) from None


def _change(file: Path, change: Callable[[ApiKeys], ApiKeys]) -> None:
    """Read, change and write under a lock, so that two commands at the same time lose no key."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsInvalid(
            f"{file} cannot be written ({error.strerror}): name another with --file, and bring it there yourself"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = change(read_keys(file) or ApiKeys())
        write_secret(file, keys.model_dump_json(indent=1, exclude_none=True) + "\n")
    finally:
        os.close(lock)
