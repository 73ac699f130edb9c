"""Builds images with buildah and runs them with podman, in a storage of its own that goes with the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mage_platform.local.package_index import pip_settings
from mage_platform.settings import PROJECT

PROGRAMS = ("buildah", "podman", "runc", "mmdebstrap", "curl")
HARDENED = (
    "--no-healthcheck", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,size=512m,mode=1777",
    "--cap-drop=all", "--security-opt=no-new-privileges",
)  # fmt: skip
"""What the pods' security context asks for."""


def why_not() -> str | None:
    """Why this machine cannot build images; None when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian packages of these names)"
    if os.geteuid() != 0:
        return "only root can make a base image here"
    return None


@dataclass(frozen=True)
class Engine:
    """buildah and podman on one storage.

    Args:
        folder: Where images, containers and configuration lie; absolute.
    """

    folder: Path

    def prepare(self) -> None:
        """Write what podman is configured with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(
            "[network]\n"
            f'network_backend = "netavark"\nnetwork_config_dir = "{self.folder}/networks"\n'
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
            f'tmp_dir = "{self.folder}/libpod"\n'
        )

    def remove(self) -> None:
        """Remove every container, image, mount and file."""
        self.podman("rm", "--all", "--force", "--time=0")
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([each for each in mounts if each.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self.folder)

    def podman(self, *arguments: str) -> str:
        """What a command of podman prints.

        Raises:
            AssertionError: It failed; with all it said.
        """
        return self._run("podman", *arguments)

    def buildah(self, *arguments: str) -> str:
        """What a command of buildah prints."""
        return self._run("buildah", *arguments)

    def build(self, dockerfile: Path, tag: str, context: Path = PROJECT) -> str:
        """Build an image; returns what the build printed."""
        with pip_volumes(self.folder / f"pip-{tag.replace('/', '-').replace(':', '-')}") as volumes:
            return self.buildah(
                "bud", "--isolation=chroot", "--network=host", "--pull-never", "--format=docker", *volumes,
                "--file", str(dockerfile), "--tag", tag, str(context),
            )  # fmt: skip

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image is."""
        found: list[dict[str, Any]] = json.loads(self.podman("image", "inspect", image))
        return found[0]

    def once(self, image: str, *command: str, options: Sequence[str] = ()) -> str:
        """What a command prints in a hardened container without network."""
        return self.podman("run", "--rm", "--network=none", *HARDENED, *options, image, *command)

    @contextmanager
    def running(self, image: str, *command: str, options: Sequence[str] = ()) -> Iterator[Container]:
        """A hardened container in the background for as long as the block lasts."""
        name = self.podman("run", "--detach", *HARDENED, *options, image, *command).strip()
        try:
            yield Container(self, name)
        finally:
            self.podman("rm", "--force", "--time=5", name)

    def call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run buildah or podman on this storage, whatever it ends with."""
        storage = ["--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run", "--storage-driver=overlay"]
        environment = {**os.environ, "CONTAINERS_CONF": str(self._configuration), "TMPDIR": str(self.folder)}
        command = [program, *storage, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=900)

    def _run(self, program: str, *arguments: str) -> str:
        done = self.call(program, *arguments)
        assert done.returncode == 0, f"{done.args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def _configuration(self) -> Path:
        return self.folder / "containers.conf"


@dataclass(frozen=True)
class Container:
    """A container that runs."""

    engine: Engine
    name: str

    def exec(self, *command: str) -> tuple[int, str]:
        """Exit code of a command inside, and what it printed, as a probe sees it."""
        done = self.engine.call("podman", "exec", self.name, *command)
        return done.returncode, (done.stdout + done.stderr).strip()

    def logs(self) -> str:
        """What it has printed."""
        done = self.engine.call("podman", "logs", self.name)
        return done.stdout + done.stderr

    def await_that(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: It never did, or the container ended; with the log of the container.
        """
        until = time.monotonic() + seconds
        while not holds():
            state = self.engine.podman("inspect", "--format={{.State.Status}}", self.name).strip()
            assert state == "running", f"it is {state}: {self.logs()[-4000:]}"
            assert time.monotonic() < until, f"never {what}: {self.logs()[:3000]}"
            time.sleep(0.3)


@contextmanager
def pip_volumes(folder: Path) -> Iterator[list[str]]:
    """Options of buildah that give pip in a build what pip of this machine is configured with.

    Folders and certificates that the configuration names are mounted as well, so that a Dockerfile names none.

    Args:
        folder: For the files to be mounted; made and removed.
    """
    settings = pip_settings(sys.executable)
    certificates = settings.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "")
    folder.mkdir()
    volumes = {folder / "pip.conf": "/etc/pip.conf"}
    if certificates:
        # not where Debian keeps its own, which packages rewrite while they are installed
        settings["cert"] = "/etc/pip-certificates.pem"
        volumes[Path(certificates)] = settings["cert"]
    for value in settings.values():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                volumes[_mounted_whole(path)] = str(_mounted_whole(path))
    (folder / "pip.conf").write_text(_ini(settings))
    try:
        yield [f"--volume={source}:{target}:ro" for source, target in volumes.items()]
    finally:
        shutil.rmtree(folder)


def _mounted_whole(path: Path) -> Path:
    """An index on disk is mounted with the files beside it that it links to."""
    return path.parent if path.name == "simple" else path


def _ini(settings: Mapping[str, str]) -> str:
    lines = [f"{name} = {' '.join(value.split())}" for name, value in settings.items()]
    return "\n".join(["[global]", *lines, ""])
