"""PgBouncer runs with the values the technology decision registry mandates."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from mage_platform.local.embedded import running
from mage_platform.local.pgbouncer import find_pgbouncer
from mage_platform.settings import Settings, load_settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_pgbouncer(load_settings()) is None, reason="the binary pgbouncer is not installed"),
]


@pytest.fixture(scope="module")
def settings(started_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("pooled") / "state"
    shutil.copytree(started_once, folder)
    with running(load_settings(state_folder=folder), ("postgres", "pgbouncer")) as effective:
        yield effective


@pytest.fixture
def console(settings: Settings) -> Iterator[psycopg.Connection[dict[str, object]]]:
    password = (settings.state_folder / "secrets" / "pgbouncer_password").read_text()
    database = settings.database
    with psycopg.connect(
        host=database.host,
        port=database.port,
        dbname="pgbouncer",
        user="pgb_auth",
        password=password,
        autocommit=True,
        prepare_threshold=None,
        row_factory=dict_row,
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        yield connection


def test_the_stack_says_that_connections_go_through_pgbouncer(settings: Settings) -> None:
    assert settings.database.through_pgbouncer
    assert settings.database.port == settings.pgbouncer.port


def test_the_values_are_those_of_the_registry(console: psycopg.Connection[dict[str, object]]) -> None:
    values = {row["key"]: row["value"] for row in console.execute("show config")}
    wanted = {
        "pool_mode": "transaction",
        "auth_type": "scram-sha-256",
        "max_client_conn": "1000",
        "default_pool_size": "20",
        "reserve_pool_size": "5",
        "listen_addr": "127.0.0.1",
    }
    assert {key: values[key] for key in wanted} == wanted


def test_mage_has_a_pool_of_its_own(console: psycopg.Connection[dict[str, object]]) -> None:
    sizes = {row["name"]: row["pool_size"] for row in console.execute("show databases")}
    assert sizes["platform"] == 20
    assert sizes["mage"] == 40


def test_a_wrong_password_is_refused(settings: Settings) -> None:
    wrong = settings.database_url().replace(settings.database_password.get_secret_value(), "wrong")  # type: ignore[union-attr]
    with pytest.raises(psycopg.OperationalError, match=r"(?i)auth|password"):
        psycopg.connect(wrong, connect_timeout=5)


def test_a_hundred_clients_share_twenty_server_connections(settings: Settings) -> None:
    def ask(_: int) -> int:
        with psycopg.connect(settings.database_url(), prepare_threshold=None) as connection:
            row = connection.execute("select pg_backend_pid() from pg_sleep(0.02)").fetchone()
            assert row is not None
            return int(row[0])

    with ThreadPoolExecutor(100) as clients:
        backends = set(clients.map(ask, range(100)))
    assert len(backends) <= 25
