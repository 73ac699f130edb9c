"""A deployment as in a cluster, without the cluster: a PostgreSQL nobody has touched, PgBouncer with its shipped file,
secret files as `secrets make` writes them, and pods as processes in production."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from mage_platform.local import child, postgres
from mage_platform.local.passwords import Passwords
from mage_platform.local.pgbouncer import find_pgbouncer
from mage_platform.local.ports import free_port
from mage_platform.local.supervisor import Service
from mage_platform.settings import PREFIX, PROJECT, Settings, load_settings

PGBOUNCER = find_pgbouncer(load_settings())
POD_SECRETS = {
    "provisioning": ("postgres-superuser", "pgbouncer", "platform-database", "mage"),
    "migrating": ("platform-database",),
    "mage": ("platform-database", "mage", "signing", "verification-keys", "redis", "h2o"),
}
"""Which Kubernetes Secrets are mounted for whom."""
MAGE_PROJECT = (
    "mage_platform", "data_loaders", "transformers", "data_exporters", "custom", "charts", "dashboards", "pipelines",
    "use_cases", "metadata.yaml", "io_config.yaml", "__init__.py",
)  # fmt: skip
_READ_ONLY = """
set -eu
for folder in "$STATE" "$SCRATCH"; do mount --bind "$folder" "$folder"; done
mount -o remount,ro,bind /
exec unshare --user --map-user=10001 --map-group=10001 "$@"
"""


@dataclass
class Cluster:
    """What a cluster has before the first command: a folder for each thing, and addresses."""

    folder: Path
    postgres_port: int = field(default_factory=free_port)
    pooler_port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def secrets(self) -> Path:
        """Where `secrets make` writes."""
        return self.folder / "secrets"

    @property
    def state(self) -> Path:
        """The volume at /state."""
        return self.folder / "state"

    def secret(self, path: str) -> str:
        """A secret file's text."""
        return (self.secrets / path).read_text().strip()

    def environment(self, pod: str) -> dict[str, str]:
        """Variables of a pod: none of them is a secret."""
        mounted = self.folder / "mounted" / pod
        shutil.rmtree(mounted, ignore_errors=True)
        mounted.mkdir(parents=True)
        for secret in POD_SECRETS[pod]:
            for file in (self.secrets / secret).glob("[!.]*"):
                shutil.copyfile(file, mounted / file.name)
                (mounted / file.name).chmod(0o444)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "JAVA_HOME") if name in os.environ}
        (self.folder / "scratch").mkdir(exist_ok=True)
        return {
            **kept,
            "HOME": str(self.folder / "scratch"),
            "TMPDIR": str(self.folder / "scratch"),
            "PYTHONPATH": str(PROJECT),
            "PLATFORM_ENVIRONMENT": "production",
            "PLATFORM_SECRETS_FOLDER": str(mounted),
            "PLATFORM_STATE_FOLDER": str(self.state),
            "PLATFORM_DATABASE__HOST": "127.0.0.1",
            "PLATFORM_DATABASE__PORT": str(self.pooler_port),
            "PLATFORM_DATABASE__THROUGH_PGBOUNCER": "true",
            "PLATFORM_PROVISIONING__HOST": "127.0.0.1",
            "PLATFORM_PROVISIONING__PORT": str(self.postgres_port),
        }

    def command(self, pod: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `mage-platform` in a pod to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mage_platform", *arguments],
            env={**self.environment(pod), **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def start_postgres(self) -> None:
        """A server with a superuser and nothing else, as its image makes it from the secret file."""
        settings = self._server_settings()
        passwords = _only_superuser(self.secret("postgres-superuser/postgres_superuser_password"))
        settings.state_folder.mkdir(exist_ok=True)
        postgres.prepare_data_folder(settings, passwords)
        self._start(postgres.postgres_service(settings, passwords))

    def start_pgbouncer(self) -> None:
        """The pooler with the file that ships; addresses and the place of its secret file are this machine's."""
        (shipped,) = (PROJECT / "k8s").rglob("pgbouncer.ini")
        place = self.folder / "pgbouncer"
        place.mkdir(exist_ok=True)
        text = shipped.read_text()
        for of_cluster, here in (
            ("host=postgres port=5432", f"host=127.0.0.1 port={self.postgres_port}"),
            ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
            ("listen_port = 6432", f"listen_port = {self.pooler_port}"),
            ("/etc/pgbouncer/secrets/", f"{place}/"),
        ):
            assert of_cluster in text
            text = text.replace(of_cluster, here)
        (place / "pgbouncer.ini").write_text(text)
        shutil.copyfile(self.secrets / "pgbouncer" / "userlist.txt", place / "userlist.txt")
        for each in (place, *place.iterdir()):
            child.give_to_server(each)

        async def ready() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.pooler_port)) == 0

        self._start(
            Service(
                name="pgbouncer",
                argv=(str(PGBOUNCER), str(place / "pgbouncer.ini")),
                address="",
                ready=ready,
                environment={"PATH": os.defpath},
                folder=place,
                level=1,
                as_nobody=child.is_root(),
            )
        )

    def superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Past PgBouncer, to look at what the commands did."""
        password = self.secret("postgres-superuser/postgres_superuser_password")
        place = {"host": "127.0.0.1", "port": self.postgres_port, "dbname": database}
        return psycopg.connect(**place, user="postgres", password=password, autocommit=True)  # type: ignore[arg-type]

    def stop(self) -> None:
        """End the servers, the last one first."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _server_settings(self) -> Settings:
        settings = load_settings(state_folder=self.folder / "server")
        return settings.model_copy(
            update={"database": settings.database.model_copy(update={"port": self.postgres_port})}
        )

    def _start(self, service: Service) -> None:
        process = subprocess.Popen(
            service.argv,
            env=dict(service.environment),
            cwd=service.folder,
            stdout=(self.folder / f"{service.name}.log").open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=child.preparation(stop_signal=service.stop_signal, as_nobody=service.as_nobody),
        )
        self.processes.append(process)
        deadline = time.monotonic() + 30
        while not asyncio.run(service.ready()):
            assert process.poll() is None and time.monotonic() < deadline, service.name
            time.sleep(0.05)


def copy_project(folder: Path) -> Path:
    """The project as it lies in the image at /app."""
    project = folder / "app"
    project.mkdir()
    for name in MAGE_PROJECT:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "data"))
        else:
            shutil.copyfile(source, project / name)
    return project


def in_a_pod(command: list[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """A command as in a container: user 10001 without rights, the root file system read-only, two folders writable."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    variables = {**environment, "STATE": environment["PLATFORM_STATE_FOLDER"], "SCRATCH": environment["TMPDIR"]}
    return [*namespace, "sh", "-c", _READ_ONLY, "sh", *command], variables


def can_make_pods() -> bool:
    """Whether this machine lets a process have mounts and users of its own."""
    if shutil.which("unshare") is None:
        return False
    command, environment = in_a_pod(["true"], {"PLATFORM_STATE_FOLDER": "/var/tmp", "TMPDIR": "/tmp"})
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True).returncode == 0


def _only_superuser(password: str) -> Passwords:
    none: dict[str, Any] = dict.fromkeys((each.name for each in fields(Passwords)), SecretStr(""))
    return Passwords(**{**none, "postgres_superuser": SecretStr(password)})


def without_platform_variables() -> dict[str, str]:
    """This process's environment without settings of the platform."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
