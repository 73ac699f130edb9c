"""Fixtures that more than one folder of tests uses: settings on a temporary folder, and real databases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from mage_platform.database import migrations
from mage_platform.local.embedded import running
from mage_platform.local.h2o_server import GIVEN_OPTIONS
from mage_platform.local.passwords import keep_passwords
from mage_platform.settings import Settings, load_settings
from tests.side_by_side import WholeFiles, is_a_worker, longest_first

TEMPLATE = "template_platform"


def pytest_configure() -> None:
    """The Java servers of the tests live for less than a minute: compiling their code well is never paid back."""
    os.environ.setdefault(GIVEN_OPTIONS, "-XX:TieredStopAtLevel=1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeFiles:
    """Which tests stay together on one worker."""
    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers begin with the longest files; one process keeps the usual order."""
    if is_a_worker():
        longest_first(items)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees the defaults, whatever PLATFORM_* variables the shell has."""
    for name in list(os.environ):
        if name.upper().startswith("PLATFORM_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """PostgreSQL, PgBouncer where it is installed, and Valkey, on free ports; one migrated template database."""
    folder = tmp_path_factory.mktemp("state")
    with running(load_settings(state_folder=folder), migrate=True) as settings:
        with _superuser(settings) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # only a machine without power would lose anything by it
            connection.execute("SELECT pg_reload_conf()")
            name = sql.Identifier(settings.database.name)
            connection.execute(_terminate, [settings.database.name])
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(TEMPLATE), name, sql.Identifier(settings.database.user)
                )
            )
        yield settings


@pytest.fixture
def settings(database_server: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a migrated database of the test's own, connected directly."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with _superuser(database_server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE), sql.Identifier(database_server.database.user)
            )
        )
    direct = _direct(database_server)
    yield direct.model_copy(
        update={
            "database": direct.database.model_copy(update={"name": name}),
            "use_cases_folder": tmp_path / "use_cases",
            "state_folder": tmp_path / "state",
        }
    )
    with _superuser(database_server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def pooled_settings(database_server: Settings) -> Settings:
    """Settings whose connections go through PgBouncer in transaction mode; skipped where it is not installed."""
    if not database_server.database.through_pgbouncer:
        pytest.skip("PgBouncer is not installed")
    migrations.apply(database_server)
    return database_server


_terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


def _direct(settings: Settings) -> Settings:
    from mage_platform.local.lookup import direct_database

    return direct_database(settings)


def _superuser(settings: Settings) -> psycopg.Connection[tuple[object, ...]]:
    direct = _direct(settings)
    return psycopg.connect(
        host=direct.database.host,
        port=direct.database.port,
        dbname="postgres",
        user="postgres",
        password=keep_passwords(settings).postgres_superuser.get_secret_value(),
        autocommit=True,
    )
