"""Which environment variables the processes of the stack get: what they need, and no more."""

from __future__ import annotations

import os
from typing import Any

from pydantic import BaseModel

from mage_platform.local.passwords import secrets_folder
from mage_platform.settings import PREFIX, PROJECT, Settings

_HARMLESS = ("PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "USER", "LOGNAME")
_SECRETS = {
    "database_password", "mage_database_password", "mage_owner_password", "redis_password", "h2o_password",
    "signing_key", "verification_keys",
}  # fmt: skip
"""What processes read from the secrets folder, never from their environment."""


def plain_environment(settings: Settings) -> dict[str, str]:
    """For servers that are configured elsewhere: path, language, home and nothing else."""
    kept = {name: value for name, value in os.environ.items() if name in _HARMLESS or name.startswith("LC_")}
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME") or str(settings.state_folder), **kept}


def platform_environment(settings: Settings) -> dict[str, str]:
    """For processes that load the platform's settings: the same settings again, secrets as files."""
    return {
        **plain_environment(settings),
        **{name: value for name, value in os.environ.items() if name.upper().startswith("SSL_CERT_")},
        **setting_variables(settings),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
    }


def block_environment(settings: Settings) -> dict[str, str]:
    """For Mage: also the person's own variables, because sources declared in use cases may need theirs."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return {**inherited, **platform_environment(settings)}


def setting_variables(settings: Settings) -> dict[str, str]:
    """Settings as `PLATFORM_*` variables, without any secret; they lead to the secrets folder instead."""
    values = settings.model_dump(mode="json", exclude=_SECRETS)
    values["secrets_folder"] = str(secrets_folder(settings))
    variables = {}
    for name, value in values.items():
        pairs = _inner(name, value) if isinstance(value, dict) else [(name, value)]
        variables.update({f"{PREFIX}{path}".upper(): _text(item) for path, item in pairs if item is not None})
    return variables


def without_secrets(settings: BaseModel) -> dict[str, Any]:
    """Settings as JSON values, without any secret."""
    return settings.model_dump(mode="json", exclude=_SECRETS)


def _inner(group: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{group}__{name}", value) for name, value in values.items()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
