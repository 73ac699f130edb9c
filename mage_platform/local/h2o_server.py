"""The H2O server of the local stack: one JVM, loopback only, behind a login, heap by the registry's 70 % rule."""

from __future__ import annotations

import importlib.util
import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mage_platform.errors import ServiceFailed, SettingsInvalid
from mage_platform.h2o_login import OPTIONS, authorization, realm
from mage_platform.local.java import Java
from mage_platform.local.probes import http_answers
from mage_platform.local.supervisor import Service
from mage_platform.local.surroundings import plain_environment
from mage_platform.provisioning.private_files import write_private
from mage_platform.settings import Settings

HOST = "127.0.0.1"
IDLE_COLLECTION_MILLISECONDS = 30_000
GIVEN_OPTIONS = "JDK_JAVA_OPTIONS"  # Java 9 and later read it themselves


def trains_here(settings: Settings) -> bool:
    """False when the settings name an H2O on another machine, so that none is started here.

    Raises:
        SettingsInvalid: A cluster of several nodes is expected here, where one is started.
    """
    here = settings.h2o.host in (HOST, "localhost")
    if here and settings.h2o.nodes > 1:
        raise SettingsInvalid(
            f"PLATFORM_H2O__NODES={settings.h2o.nodes}, and the local stack starts one H2O node: unset it, or point "
            "PLATFORM_H2O__HOST and PLATFORM_H2O__PORT at the cluster",
            field="h2o.nodes",
        )
    return here


def h2o_service(settings: Settings, java: Java, password: SecretStr) -> Service:
    """The server as a service; writes the file that its login is checked against."""
    folder = settings.state_folder / "h2o"
    scratch, logs = folder / "scratch", settings.state_folder / "logs" / "h2o"
    for needed in (scratch, logs):
        needed.mkdir(mode=0o700, parents=True, exist_ok=True)
    realm_file = folder / "realm.properties"
    write_private(realm_file, realm(password))
    argv = [str(java.command), *_memory_options(settings, java), "-Duser.timezone=UTC", "-jar", str(_jar())]
    argv += f"-ip {HOST} -web_ip {HOST} -port {settings.h2o.port} -nthreads {settings.h2o.threads}".split()
    argv += ["-hash_login", "-login_conf", str(realm_file), *OPTIONS]
    argv += ["-ice_root", str(scratch), "-log_dir", str(logs)]
    # a name of its own: it must never form a cloud with somebody else's H2O on this machine
    argv += ["-name", f"platform-{secrets.token_hex(4)}", "-log_level", "WARN"]
    return Service(
        name="h2o",
        argv=tuple(argv),
        address=f"http://{HOST}:{settings.h2o.port}",
        ready=http_answers(HOST, settings.h2o.port, "/3/Cloud", _healthy, authorization=authorization(password)),
        environment={**plain_environment(settings), **_java(java), "DO_NOT_TRACK": "1"},
        folder=folder,
        level=2,
        start_timeout_seconds=120,
        stop_timeout_seconds=10,
    )


def _java(java: Java) -> dict[str, str]:
    """Which Java, and the options that whoever starts the stack gives to each Java."""
    options = os.environ.get(GIVEN_OPTIONS)
    return {"JAVA_HOME": str(java.home), **({GIVEN_OPTIONS: options} if options else {})}


def _memory_options(settings: Settings, java: Java) -> list[str]:
    """Heap at most as set; freed memory goes back to the machine while nothing trains."""
    options = [f"-Xmx{settings.h2o.heap_mib}m", "-Xms64m", "-XX:+UseG1GC"]
    options += ["-XX:MinHeapFreeRatio=5", "-XX:MaxHeapFreeRatio=15"]
    if java.major >= 12:
        options.append(f"-XX:G1PeriodicGCInterval={IDLE_COLLECTION_MILLISECONDS}")
    return options


def _healthy(cloud: Any) -> bool:
    return bool(cloud["cloud_healthy"])


def _jar() -> Path:
    spec = importlib.util.find_spec("h2o")
    jar = Path(spec.origin).parent / "backend" / "bin" / "h2o.jar" if spec and spec.origin else None
    if jar is None or not jar.exists():
        raise ServiceFailed("the wheel h2o is not installed completely: rm -rf .venv && make run")
    return jar
