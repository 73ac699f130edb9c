"""A connection for one unit of work: what is kept, what is not, and which error says that the server was lost."""

from __future__ import annotations

import time

import psycopg
import pytest

from mage_platform.database import connect
from mage_platform.errors import DatabaseUnavailable
from mage_platform.settings import Settings

pytestmark = pytest.mark.integration


def test_a_server_that_is_gone_is_unavailable_and_says_where(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database": settings.database.model_copy(update={"port": 1})})
    with pytest.raises(DatabaseUnavailable, match="127.0.0.1:1"), connect(nowhere):
        pass


def test_a_server_that_is_lost_is_unavailable_and_a_time_out_is_itself(settings: Settings) -> None:
    with pytest.raises(DatabaseUnavailable), connect(settings) as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.errors.QueryCanceled), connect(settings) as connection:
        connection.execute("SET LOCAL statement_timeout = 20")
        connection.execute("SELECT pg_sleep(5)")


def test_an_error_inside_the_block_rolls_back(settings: Settings) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), connect(settings) as connection:
        connection.execute("CREATE TABLE platform.gone (x integer)")
        connection.execute("SELECT 1 / 0")
    with connect(settings) as connection:
        assert connection.execute("SELECT to_regclass('platform.gone')").fetchone() == (None,)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_server_that_is_lost_between_two_statements_is_unavailable(
    settings: Settings, database_server: Settings, pooled: bool
) -> None:
    """Its last word and the end of the line are two results of one COMMIT, for psycopg an internal error."""
    if pooled and not database_server.database.through_pgbouncer:
        pytest.skip("PgBouncer is not installed")
    watched = database_server if pooled else settings
    with pytest.raises(DatabaseUnavailable), connect(watched) as connection:
        process = connection.execute("SELECT pg_backend_pid()").fetchone()
        with connect(watched) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10_000)", process)
        time.sleep(0.2)  # until both have arrived


def test_a_broken_promise_that_is_noticed_at_the_commit_is_itself(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("CREATE TABLE platform.pairs (x integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(psycopg.errors.UniqueViolation), connect(settings) as connection:
        connection.execute("INSERT INTO platform.pairs VALUES (1), (1)")
