"""From a PostgreSQL that nobody has touched to a Mage server in production, by nothing but the commands: secrets in
files, a read-only root file system, PgBouncer in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import jwt
import pytest

from mage_platform.orchestration.client import MageClient
from mage_platform.orchestration.mage_session import PUBLIC_API_KEY
from mage_platform.settings import PROJECT
from tests import demo_use_case as demo
from tests.provisioning.conftest import new_deployment
from tests.provisioning.deployment import Cluster, can_make_pods, copy_project, free_port, in_a_pod

OWNER, WELL_KNOWN = "owner@platform.local", "admin@admin.com"
OWNER_FILE = "mage/platform_mage_owner_password"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not can_make_pods(), reason="the kernel forbids mounts and users of one's own"),
]


@dataclass
class Pod:
    """The pod of the Mage server."""

    deployment: Cluster
    project: Path
    port: int
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in another container of the same kind."""
        argv, environment = in_a_pod(list(command), self.environment)
        return subprocess.run(argv, env=environment, cwd=self.project, capture_output=True, text=True, timeout=400)

    def start(self) -> None:
        """The server, as the manifest starts it; returns when it answers and its logins are made."""
        (script,) = (PROJECT / "k8s").rglob("run_app.sh")
        server = [sys.executable, "-m", "mage_platform.orchestration.mage_server", "start", str(self.project)]
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        command, environment = in_a_pod(["sh", str(script), *server, *where], self.environment)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.project,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 240
        while not (self.is_up() and self.logins() is not None):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not come up:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.5)

    def is_up(self) -> bool:
        with MageClient(self.url, OWNER, "") as client:
            return client.is_up()

    def logins(self) -> list[str] | None:
        """E-mail addresses of Mage's users; None until the first was made."""
        with self.deployment.superuser("mage") as connection:
            return [row[0] for row in connection.execute('select email from public."user"').fetchall()] or None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)

    def log_in(self, email: str, password: str) -> dict[str, Any]:
        """Mage's answer to a login."""
        session = {"session": {"email": email, "password": password}}
        headers = {"X-API-KEY": PUBLIC_API_KEY}
        return dict(httpx.post(f"{self.url}/api/sessions", json=session, headers=headers, timeout=60).json())

    def logs_in(self, email: str, password: str) -> bool:
        """Whether Mage knows this login."""
        answer = self.log_in(email, password)
        assert ("session" in answer) != (answer.get("error", {}).get("type") == "record_not_found"), answer
        return "session" in answer


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The whole way: secrets, roles and databases, tables, and then the server."""
    folder = tmp_path_factory.mktemp("production")
    with new_deployment(folder) as deployment:
        for name, *command in (
            ("provisioning", "database", "provision", "--wait", "60"),
            ("migrating", "database", "migrate", "--wait", "60"),
            ("mage", "database", "status", "--wait", "60"),
        ):
            done = deployment.command(name, *command)
            assert done.returncode == 0, done.stderr
        project = copy_project(folder)
        demo.write_use_case(folder / "use_cases")
        deployment.state.mkdir()
        port = free_port()
        environment = {
            **deployment.environment("mage"),
            "PYTHONPATH": str(project),
            "MAGE_REPO_PATH": str(project),
            "PLATFORM_MAGE__PORT": str(port),
            "PLATFORM_USE_CASES_FOLDER": str(folder / "use_cases"),
        }
        server = Pod(deployment, project, port, environment, folder / "mage.log")
        try:
            server.start()
            yield server
        finally:
            server.stop()


def test_a_pod_of_these_tests_can_write_to_its_volumes_only_and_has_no_rights(pod: Pod) -> None:
    assert pod.run("touch", str(pod.project / "written")).returncode != 0
    assert pod.run("touch", str(pod.deployment.folder / "written")).returncode != 0
    assert pod.run("touch", str(pod.deployment.state / "written")).returncode == 0
    assert pod.run("id", "-u").stdout == "10001\n"
    assert "CapEff:\t0000000000000000" in pod.run("cat", "/proc/self/status").stdout


def test_only_the_owner_of_the_secret_gets_in(pod: Pod) -> None:
    assert pod.logins() == [OWNER]
    assert pod.logs_in(OWNER, pod.deployment.secret(OWNER_FILE))
    with MageClient(pod.url, OWNER, pod.deployment.secret(OWNER_FILE)) as client:
        assert client.triggers(), "the owner may not see what starts pipelines"
    assert not pod.logs_in(OWNER, "admin")
    assert not pod.logs_in(WELL_KNOWN, "admin")
    answer = httpx.get(f"{pod.url}/api/pipelines", headers={"X-API-KEY": PUBLIC_API_KEY}, timeout=60)
    assert "error" in answer.json(), "it answers without a login"


def test_logins_are_signed_with_the_key_of_the_secret_not_with_mages_own(pod: Pod) -> None:
    token = pod.log_in(OWNER, pod.deployment.secret(OWNER_FILE))["session"]["token"]
    assert jwt.decode(token, key=pod.deployment.secret("mage/mage_session_key"), algorithms=["HS256"])["token"]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, key="materia", algorithms=["HS256"])


def test_no_variable_of_the_pod_and_no_line_of_its_log_holds_a_secret_of_a_login(pod: Pod) -> None:
    assert pod.process is not None
    variables = Path(f"/proc/{pod.process.pid}/environ").read_bytes().decode()
    assert "MAGE_FAMILY" in variables, "this is not the server"
    for path in (OWNER_FILE, "mage/mage_session_key"):
        assert pod.deployment.secret(path) not in variables
        assert pod.deployment.secret(path) not in pod.log.read_text()
    assert pod.deployment.secret("mage/platform_mage_database_password") not in pod.log.read_text()


def test_a_pipeline_runs_and_its_rows_arrive_through_pgbouncer(pod: Pod) -> None:
    program = [sys.executable, "-m", "mage_platform", "run", "ingest_features", "--use-case", demo.NAME]
    done = pod.run(*program, "--quiet", "--json")
    assert done.returncode == 0, done.stderr + pod.log.read_text()[-2000:]
    assert json.loads(done.stdout)["status"] == "completed"
    with pod.deployment.superuser("platform") as connection:
        rows = connection.execute("select count(*) from platform.features").fetchone()
    assert rows == (len(demo.CITIES) * demo.ROWS_A_CITY,)
    assert not (pod.deployment.state / "secrets").exists(), "in production no secret is made up or copied"


def test_logins_are_mended_by_a_command_and_count_from_the_next_start_on(pod: Pod) -> None:
    """Mage remembers logins that it has seen, so a new secret wants a restart, as it does for everything else."""
    file = pod.deployment.secrets / OWNER_FILE
    former = file.read_text()
    file.write_text("another password of the owner")
    plant_the_login_that_everybody_knows(pod)
    assert pod.logs_in(WELL_KNOWN, "admin")
    first, second = (
        json.loads(pod.deployment.command("provisioning", "database", "provision", "--json").stdout) for _ in range(2)
    )
    assert (first["mage_owner"], first["well_known_owner_locked"]) == ("mended", True)
    assert second == {"made": [], "mended": [], "mage_owner": "right", "well_known_owner_locked": False}
    pod.stop()
    pod.start()
    assert pod.logs_in(OWNER, "another password of the owner")
    assert not pod.logs_in(OWNER, former)
    assert not pod.logs_in(WELL_KNOWN, "admin")
    assert sorted(pod.logins() or []) == [WELL_KNOWN, OWNER], "a second start makes no login"


def plant_the_login_that_everybody_knows(pod: Pod) -> None:
    """As a Mage that was once started without a secret has made it."""
    salt = bcrypt.gensalt(4)
    with pod.deployment.superuser("mage") as connection:
        connection.execute(
            'insert into public."user" (email, username, password_hash, password_salt, created_at, updated_at) '
            "values (%s, 'admin', %s, %s, now(), now())",
            [WELL_KNOWN, bcrypt.hashpw(b"admin", salt).decode(), salt.decode()],
        )
