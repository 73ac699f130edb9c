"""The four images, built once, and the servers that containers of them talk to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mage_platform.local.embedded import running
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.ports import free_port
from mage_platform.settings import PROJECT, Settings, load_settings
from tests.images.base_images import make_bases
from tests.images.container_engine import Container, Engine, why_not
from tests.serving.sidecar_process import Trained

NAMES = ("mage", "sidecar", "h2o", "pgbouncer")
TOGETHER = 2
"""Builds side by side; the first waits for packages as long as the others take together."""


@dataclass(frozen=True)
class Images:
    """What was built."""

    engine: Engine
    seconds: dict[str, float]
    """How long each took, and `bases`; two were built at a time."""

    def tag(self, name: str) -> str:
        """The full name of an image."""
        return f"localhost/converged-platform/{name}:0.1.0"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if reason := why_not():
        pytest.skip(f"no images here: {reason}")
    engine = Engine(Path(tempfile.mkdtemp(prefix="images_")))  # podman refuses a path of more than 50 characters
    engine.prepare()
    try:
        yield engine
    finally:
        engine.remove()


@pytest.fixture(scope="session")
def images(engine: Engine) -> Images:
    begun = time.monotonic()
    make_bases(engine)
    images = Images(engine, {"bases": time.monotonic() - begun})

    def build(name: str) -> None:
        begun = time.monotonic()
        engine.build(PROJECT / "k8s" / "images" / name / "Dockerfile", images.tag(name))
        images.seconds[name] = time.monotonic() - begun

    with ThreadPoolExecutor(TOGETHER) as builds:
        list(builds.map(build, NAMES))
    return images


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """PostgreSQL and Valkey, outside of any container."""
    settings = load_settings(state_folder=tmp_path_factory.mktemp("stack"))
    with running(settings, ("postgres", "valkey"), migrate=True) as effective:
        yield effective


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One real model."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "tests.serving.train_models", str(folder), "gbm"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Trained(folder)


@dataclass(frozen=True)
class Pooler:
    """PgBouncer in a container."""

    container: Container
    port: int


@pytest.fixture(scope="session")
def pooler(images: Images, stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooler]:
    """The image with the configuration that ships; of that, only the addresses are changed."""
    folder, port = tmp_path_factory.mktemp("pooler"), free_port()
    shipped = (PROJECT / "k8s" / "base" / "pgbouncer" / "pgbouncer.ini").read_text()
    changed = (
        shipped.replace("host=postgres port=5432", f"host=127.0.0.1 port={stack.database.port}")
        .replace("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1")
        .replace("listen_port = 6432", f"listen_port = {port}")
    )
    (folder / "pgbouncer.ini").write_text(changed)
    password = keep_passwords(stack).pgbouncer.get_secret_value()
    secrets = mounted_secrets(folder / "secrets", {"userlist.txt": f'"pgb_auth" "{password}"\n'})
    options = [
        "--network=host", "--memory=128m", f"--volume={folder}/pgbouncer.ini:/etc/pgbouncer/pgbouncer.ini:ro",
        f"--volume={secrets}:/etc/pgbouncer/secrets:ro",
    ]  # fmt: skip
    with images.engine.running(images.tag("pgbouncer"), options=options) as container:
        container.await_that(lambda: container.exec("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")[0] == 0, "up")
        yield Pooler(container, port)


def mounted_secrets(folder: Path, files: dict[str, str]) -> Path:
    """A folder of secret files as a pod sees it: readable for the group, which is the container's.

    Args:
        folder: Made, with everything in it.
        files: Name and contents.
    """
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o440)
        os.chown(folder / name, 0, 10001)
    return folder
