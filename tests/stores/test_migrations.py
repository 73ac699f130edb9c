"""Migrations: once each, safe side by side, and never edited behind the database's back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mage_platform.database import connect, migrations
from mage_platform.database.migrations import runner
from mage_platform.errors import ContractViolated
from mage_platform.settings import Settings

pytestmark = pytest.mark.integration


def _drop_schema(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("DROP SCHEMA platform CASCADE")


def test_two_starts_at_once_apply_each_migration_once(settings: Settings) -> None:
    _drop_schema(settings)
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrations.apply(settings), range(4)))
    assert sorted(applied) == [[], [], [], [each.name for each in runner.available()]]
    assert migrations.pending(settings) == []


def test_an_edited_migration_is_refused(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("UPDATE platform.schema_migrations SET sha256 = 'other' WHERE number = 1")
    with pytest.raises(ContractViolated, match="0001_path_of_the_data was edited"):
        migrations.apply(settings)


def test_a_newer_database_is_refused(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("INSERT INTO platform.schema_migrations VALUES (9999, 'later', '')")
    with pytest.raises(ContractViolated, match=r"\[9999\].*newer version"):
        migrations.apply(settings)


def test_the_features_table_follows_the_registrys_pattern(settings: Settings) -> None:
    with connect(settings) as connection:
        columns = dict(
            connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = 'platform' AND table_name = 'features'"
            ).fetchall()
        )
        key = connection.execute("SELECT pg_get_partkeydef('platform.features'::regclass)").fetchone()
        index = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_features_vector_gin'"
        ).fetchone()
        primary = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = 'platform.features'::regclass AND contype = 'p'"
        ).fetchone()
    assert columns["entity_id"] == "uuid"
    assert columns["event_time"] == "timestamp with time zone"
    assert columns["feature_vector"] == "jsonb"
    assert key == ("HASH (entity_id)",)
    assert primary == ("PRIMARY KEY (entity_id, event_time)",)
    assert index is not None
    assert "USING gin (feature_vector" in index[0]


def test_no_column_is_json_and_no_table_is_range_partitioned(settings: Settings) -> None:
    with connect(settings) as connection:
        json_columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'platform' AND data_type = 'json'"
        ).fetchall()
        strategies = {row[0] for row in connection.execute("SELECT partstrat FROM pg_partitioned_table")}
    assert json_columns == []
    assert strategies == {"h"}
