"""PgBouncer from its image: read-only, without capabilities, with the configuration that ships."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.rows import dict_row

from mage_platform.local.passwords import keep_passwords
from mage_platform.settings import Settings
from tests.images.conftest import Pooler

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def login(pooler: Pooler, database: str, user: str, password: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1", port=pooler.port, dbname=database, user=user, password=password, autocommit=True
    )


def test_a_role_logs_in_through_it_by_scram_and_a_wrong_password_does_not(pooler: Pooler, stack: Settings) -> None:
    password = keep_passwords(stack).database.get_secret_value()
    with login(pooler, "features", stack.database.user, password) as connection:
        row = connection.execute("select current_user, current_database(), inet_server_port()").fetchone()
    assert row == (stack.database.user, stack.database.name, stack.database.port)
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        login(pooler, "features", stack.database.user, "wrong")


def test_mage_has_the_pool_of_its_own_that_the_configuration_declares(pooler: Pooler, stack: Settings) -> None:
    passwords = keep_passwords(stack)
    with login(pooler, "mage", stack.mage.database_user, passwords.mage_database.get_secret_value()) as connection:
        assert connection.execute("select current_database()").fetchone() == (stack.mage.database,)
    with login(pooler, "pgbouncer", "pgb_auth", passwords.pgbouncer.get_secret_value()) as console:
        shown = console.cursor(row_factory=dict_row).execute(b"show databases").fetchall()
    sizes = {row["name"]: row["pool_size"] for row in shown}
    assert (sizes["mage"], sizes["features"]) == (40, 20)
