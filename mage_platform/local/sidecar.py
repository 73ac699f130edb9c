"""The prediction API of the local stack, in its own small Python environment."""

from __future__ import annotations

import os
from pathlib import Path

from mage_platform.errors import ServiceFailed
from mage_platform.local.java import Java
from mage_platform.local.probes import http_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import platform_environment
from mage_platform.settings import PROJECT, Settings


def sidecar_service(settings: Settings, java: Java) -> Service:
    """The sidecar as a service. It counts as ready when it lives: it has nothing to serve before a champion is."""
    sidecar = settings.sidecar
    return Service(
        name="sidecar",
        argv=(str(_interpreter()), "-m", "serving"),
        address=sidecar.url,
        ready=http_answers(sidecar.host, sidecar.port, "/health/live"),
        environment={**platform_environment(settings), "JAVA_HOME": str(java.home)},
        folder=PROJECT,
        level=3,
        start_timeout_seconds=60,
        stop_timeout_seconds=15,
    )


def _interpreter() -> Path:
    interpreter = PROJECT / ".venv-serving" / "bin" / "python"
    if not os.access(interpreter, os.X_OK):
        raise ServiceFailed(f"{interpreter} is missing: make run makes it")
    return interpreter
