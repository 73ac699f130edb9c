"""A query as the source, on a real PostgreSQL: types, bounds, other servers, and what goes wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from mage_platform.database import connect
from mage_platform.errors import DatabaseUnavailable, SettingsInvalid, SourceInvalid
from mage_platform.settings import Settings
from mage_platform.sources.queries import read_query

pytestmark = pytest.mark.integration


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return tmp_path / "rows.sql"


def read(settings: Settings, query: Path, text: str, **more: object) -> pd.DataFrame:
    query.write_text(text, encoding="utf-8")
    return read_query(settings, query, more.pop("connection", None), **more)  # type: ignore[arg-type]


def test_each_type_comes_as_pandas_has_it(settings: Settings, query: Path) -> None:
    rows = read(
        settings, query,
        """SELECT 1::int2 AS a, 2.50::numeric(8,2) AS b, 'é' AS c, true AS d, date '2024-02-01' AS "Tag",
                  timestamp '2024-01-01 10:00' AS local, timestamptz '2024-01-01 10:00+02' AS at,
                  '7cf06540-e6e0-54cb-8483-c525c4b50d97'::uuid AS id, NULL::int AS none, 'NaN'::numeric AS nan,
                  '{"k": 1}'::jsonb AS "load %"
           -- the last line is a comment""",
    )  # fmt: skip
    first = rows.iloc[0]
    assert (first["a"], first["b"], first["c"], first["d"]) == (1, 2.5, "é", True)
    assert first["local"] == pd.Timestamp("2024-01-01 10:00") and first["at"] == pd.Timestamp("2024-01-01 08:00Z")
    assert first["id"] == "7cf06540-e6e0-54cb-8483-c525c4b50d97"
    assert pd.isna(first["none"]) and pd.isna(first["nan"]) and first["load %"] == '{"k": 1}'


def test_bounds_stand_where_the_query_wants_them_and_a_per_cent_sign_is_itself(settings: Settings, query: Path) -> None:
    text = """SELECT at FROM generate_series(timestamptz '2024-01-01Z', '2024-01-10Z', '1 day') AS at
              WHERE at >= %(start)s AND at < %(end)s AND 'a_b' LIKE '%b' AND 7 % 4 = 3;"""
    assert len(read(settings, query, text)) == 10
    rows = read(settings, query, text, start=datetime(2024, 1, 3, tzinfo=UTC), end=datetime(2024, 1, 5, tzinfo=UTC))
    assert [each.day for each in rows["at"]] == [3, 4]


def test_many_rows_come_in_batches_and_a_limit_stops_early(settings: Settings, query: Path) -> None:
    text = "SELECT n, repeat('x', 100) AS text FROM generate_series(1, 200000) AS n"
    assert read(settings, query, text)["n"].sum() == 200_000 * 200_001 // 2
    assert read(settings, query, text, limit=1_000)["n"].tolist() == list(range(1, 1_001))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT nothing FROM pg_class", 'column "nothing" does not exist LINE 1: SELECT nothing'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1 / (n - 500) FROM generate_series(1, 1000) AS n", "division by zero"),
        ("CREATE TABLE mine (a int)", "cannot execute CREATE TABLE in a read-only transaction"),
        ("SELECT 1 AS a, 2 AS a", "answers 'a' more than once: give each column a name of its own by AS"),
    ],
)
def test_a_refused_query_is_named_with_postgresqls_own_sentence(
    settings: Settings, query: Path, text: str, message: str
) -> None:
    with pytest.raises(SourceInvalid, match=rf"rows\.sql.*{re.escape(message)}"):
        read(settings, query, text)


def test_another_server_is_reached_by_its_secret(settings: Settings, query: Path) -> None:
    secrets = settings.state_folder / "secrets"
    secrets.mkdir(parents=True)
    settings = settings.model_copy(update={"secrets_folder": secrets})
    with pytest.raises(SettingsInvalid, match="asks for the secret file .*platform_source_shop"):
        read(settings, query, "SELECT 1 AS a", connection="shop")
    with connect(settings) as connection:
        connection.execute("CREATE TABLE sales (amount numeric)")
        connection.execute("INSERT INTO sales VALUES (12.5), (NULL)")
    file = secrets / "platform_source_shop"
    file.write_text(settings.database_url() + "\n", encoding="utf-8")
    assert read(settings, query, "SELECT amount FROM sales", connection="shop")["amount"].sum() == 12.5
    file.write_text("host=nowhere password=my hidden", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match="no PostgreSQL connection string") as caught:
        read(settings, query, "SELECT 1 AS a", connection="shop")
    assert "hidden" not in str(caught.value)
    file.write_text("postgresql://nobody:hidden@127.0.0.1:1/x", encoding="utf-8")
    with pytest.raises(DatabaseUnavailable, match=r"rows\.sql runs on shop: 127\.0\.0\.1:1/x.*refused") as refused:
        read(settings, query, "SELECT 1 AS a", connection="shop")
    assert "hidden" not in str(refused.value)
