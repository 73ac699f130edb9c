"""Secret files for an overlay, as `mage-platform secrets make` writes them."""

from __future__ import annotations

import secrets
from pathlib import Path

KEYS = {
    "postgres-superuser": ["postgres_superuser_password"],
    "pgbouncer": ["pgbouncer_password", "userlist.txt"],
    "platform-database": ["platform_database_password"],
    "mage": [
        "mage_database_url",
        "platform_mage_database_password",
        "platform_mage_owner_password",
        "mage_session_key",
    ],
    "signing": ["platform_signing_key"],
    "verification-keys": ["platform_verification_keys"],
    "api-keys": ["platform_api_keys"],
    "redis": ["platform_redis_password"],
    "h2o": ["platform_h2o_password", "realm.properties"],
    "sidecar-tls": ["tls.crt", "tls.key"],
}


def make_secrets(folder: Path) -> None:
    """Write every secret file."""
    for name, keys in KEYS.items():
        for key in keys:
            file = folder / name / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(16))
