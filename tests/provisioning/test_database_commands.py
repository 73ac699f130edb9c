"""From a PostgreSQL that nobody has touched to logins through PgBouncer and tables, by commands alone."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from mage_platform.database.migrations import runner
from mage_platform.local.ports import free_port
from tests.provisioning.conftest import make_secrets
from tests.provisioning.deployment import Cluster

pytestmark = pytest.mark.integration

EXTENSIONS = ("pg_stat_statements", "vector")  # those that the server of the tests brings


def provision(deployment: Cluster) -> dict[str, Any]:
    done = deployment.command("provisioning", "database", "provision", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def provisioned(fresh: Cluster) -> Cluster:
    provision(fresh)
    return fresh


def pooled(deployment: Cluster, role: str, password: str) -> psycopg.Connection[Any]:
    """A login through PgBouncer, in the role's own database."""
    place = {"host": "127.0.0.1", "port": deployment.pooler_port, "dbname": role, "connect_timeout": 10}
    return psycopg.connect(**place, user=role, password=password, prepare_threshold=None)  # type: ignore[arg-type]


def verifiers(deployment: Cluster) -> dict[str, str]:
    with deployment.superuser() as connection:
        return dict(connection.execute("select rolname, rolpassword from pg_authid where rolcanlogin").fetchall())


def test_an_untouched_postgresql_gets_all_it_needs_and_nothing_the_second_time(fresh: Cluster) -> None:
    assert set(verifiers(fresh)) == {"postgres"}
    first = provision(fresh)
    assert sorted(first["made"]) == sorted(
        [
            *("role platform", "role mage", "role pgb_auth", "database platform", "database mage"),
            *(f"look-up of logins in database {database}" for database in ("platform", "mage")),
            *(f"extension {name} in database {database}" for name in EXTENSIONS for database in ("platform", "mage")),
        ]
    )
    assert first["mended"] == []
    assert first["mage_owner"] == "not_yet"
    before = verifiers(fresh)
    assert all(text.startswith("SCRAM-SHA-256$") for text in before.values())
    again = provision(fresh)
    assert (again["made"], again["mended"]) == ([], [])
    assert verifiers(fresh) == before, "PgBouncer remembers verifiers: they must not change without a reason"


def test_the_roles_log_in_through_pgbouncer_and_may_do_no_more_than_they_need(provisioned: Cluster) -> None:
    for role, secret in (
        ("platform", "platform-database/platform_database_password"),
        ("mage", "mage/platform_mage_database_password"),
    ):
        with pooled(provisioned, role, provisioned.secret(secret)) as connection:
            assert connection.execute("select current_user, current_database()").fetchone() == (role, role)
    with psycopg.connect(
        provisioned.secret("mage/mage_database_url").replace("postgresql+psycopg2", "postgresql")
    ) as connection:
        assert connection.execute("select current_user, current_setting('timezone')").fetchone() == ("mage", "UTC")
    with provisioned.superuser() as connection:
        rights = "select rolname, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls from pg_roles where rolcanlogin"
        kept = {name: rights for name, *rights in connection.execute(rights).fetchall() if name != "postgres"}
    assert kept == dict.fromkeys(("platform", "mage", "pgb_auth"), [False] * 4)


def test_what_was_changed_by_hand_is_mended_and_named(provisioned: Cluster) -> None:
    with provisioned.superuser() as connection:
        connection.execute("alter role platform createdb")
        connection.execute("alter role mage password 'by hand'")
    with provisioned.superuser("mage") as connection:
        connection.execute("drop function pgb.get_auth(text)")
    with provisioned.superuser("platform") as connection:
        connection.execute("grant execute on function pgb.get_auth(text) to public")
    told = provision(provisioned)
    assert told["made"] == ["look-up of logins in database mage"]
    assert told["mended"] == ["look-up of logins in database platform", "role mage", "role platform"]
    with pooled(provisioned, "mage", provisioned.secret("mage/platform_mage_database_password")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_secret_that_is_made_anew_is_the_one_that_counts(provisioned: Cluster) -> None:
    file = provisioned.secrets / "platform-database" / "platform_database_password"
    former = file.read_text()
    file.unlink()
    assert make_secrets(provisioned.secrets)["made"] == ["platform-database/platform_database_password"]
    assert provision(provisioned)["mended"] == ["role platform"]
    with pooled(provisioned, "platform", file.read_text()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        pooled(provisioned, "platform", former)


def test_a_wrong_password_of_the_superuser_is_not_waited_for(provisioned: Cluster) -> None:
    file = provisioned.secrets / "postgres-superuser" / "postgres_superuser_password"
    right = file.read_text()
    file.write_text("not the one of the server")
    try:
        done = provisioned.command("provisioning", "database", "provision", "--wait", "120")
    finally:
        file.write_text(right)
    assert done.returncode == 2
    assert "refuses the password of postgres: the secret file postgres_superuser_password" in done.stderr


def test_a_postgresql_that_is_not_there_is_waited_for_and_then_named(provisioned: Cluster) -> None:
    nobody = str(free_port())
    done = provisioned.command("provisioning", "database", "provision", "--port", nobody, "--wait", "1")
    assert done.returncode == 4
    waiting, error = done.stderr.splitlines()
    assert waiting.startswith(f"waiting for PostgreSQL at 127.0.0.1:{nobody}, at most 1 s:")
    assert error.startswith(f"error: PostgreSQL at 127.0.0.1:{nobody} did not answer within 1 s:")
    assert "PLATFORM_PROVISIONING__PORT" in error


def test_a_secret_file_that_is_not_mounted_is_named(provisioned: Cluster) -> None:
    done = provisioned.command("migrating", "database", "provision")
    assert done.returncode == 2
    assert "mounted/migrating/postgres_superuser_password is missing or empty" in done.stderr


def without_tables(deployment: Cluster) -> None:
    with deployment.superuser("platform") as connection:
        connection.execute("drop schema if exists platform cascade")


def test_four_migrations_at_once_apply_each_file_once(provisioned: Cluster) -> None:
    without_tables(provisioned)
    environment = provisioned.environment("migrating")
    command = [sys.executable, "-m", "mage_platform", "database", "migrate", "--json"]

    def migrate(_: int) -> list[str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["applied"])

    with ThreadPoolExecutor(4) as pool:
        applied = sorted(pool.map(migrate, range(4)))
    assert applied == [[], [], [], [each.name for each in runner.available()]]
    done = provisioned.command("migrating", "database", "status", "--json")
    assert json.loads(done.stdout) == {"up_to_date": True, "answers": True, "pending": [], "reason": ""}


def test_status_waits_for_the_tables_and_makes_none_itself(provisioned: Cluster) -> None:
    without_tables(provisioned)
    done = provisioned.command("migrating", "database", "status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["pending"] == [each.name for each in runner.available()]
    assert "mage-platform database migrate" in done.stderr
    with provisioned.superuser("platform") as connection:
        assert connection.execute("select to_regnamespace('platform')").fetchone() == (None,)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "mage_platform", "database", "status", "--wait", "120"],
        env=provisioned.environment("mage"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("waiting, at most 120 s: database platform at ")
    assert waiting.poll() is None
    assert provisioned.command("migrating", "database", "migrate").returncode == 0
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, "the tables are up to date\n")


def test_a_database_that_is_newer_than_the_code_is_no_state_to_start_in(provisioned: Cluster) -> None:
    assert provisioned.command("migrating", "database", "migrate").returncode == 0
    with provisioned.superuser("platform") as connection:
        connection.execute("insert into platform.schema_migrations values (9999, 'later', '')")
    done = provisioned.command("migrating", "database", "status", "--wait", "200")
    with provisioned.superuser("platform") as connection:
        connection.execute("delete from platform.schema_migrations where number = 9999")
    assert done.returncode == 1
    assert "newer version" in done.stderr
    assert "waiting" not in done.stderr, "it was waited for, and waiting mends nothing"


def test_status_of_a_database_that_does_not_answer_is_1_and_says_what_to_do(provisioned: Cluster) -> None:
    done = provisioned.command("migrating", "database", "status", PLATFORM_DATABASE__PORT=str(free_port()))
    assert done.returncode == 1
    assert "did not answer" in done.stderr
    assert "mage-platform database provision" in done.stderr
