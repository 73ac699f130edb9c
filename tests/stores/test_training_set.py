"""The read for training against brute force: which vector, which part, in which order, and what happens in between."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mage_platform.contracts import POOLED, FeatureColumn, InputSchema, TrainingWindow, UseCase
from mage_platform.database import connect
from mage_platform.errors import DatabaseUnavailable, FeaturesInvalid
from mage_platform.features.training_set import KEYS, PARTS, training_batches, training_files, training_set
from mage_platform.settings import Settings
from mage_platform.training.lineage import RowsFingerprint

pytestmark = pytest.mark.integration

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = InputSchema(
    columns={
        "level": FeatureColumn(type="number", missing="allowed"),
        "kind": FeatureColumn(type="category", missing="allowed"),
        "wet": FeatureColumn(type="boolean", missing="allowed"),
    }
)
RIDES = UseCase.model_validate(
    {
        "name": "rides",
        "title": "Rides",
        "source": {"file": "none.csv"},
        "entity": {"key": ["ride"]},
        "event_time": "moment",
        "region": "city",
        "target": {"column": "late", "kind": "multiclass"},
        "features": {"columns": SCHEMA.columns},
        "training": {
            name: START + timedelta(each)
            for name, each in zip(
                ("train_until", "validate_until", "blend_until", "test_until"), (10, 14, 17, 20), strict=True
            )
        },
    }
)
MANY = RIDES.model_copy(update={"name": "many"})
PART_DAYS = [(None, 10), (10, 14), (14, 17), (17, 20)]
WINDOW = TrainingWindow(
    train_until=START + timedelta(10),
    validate_until=START + timedelta(14),
    blend_until=START + timedelta(17),
    test_until=START + timedelta(20),
)


def write_vector(connection: psycopg.Connection[Any], entity: uuid.UUID, moment: datetime, **features: Any) -> None:
    connection.execute(
        "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region)"
        " VALUES (%s, %s, %s::text::jsonb, %s, 'Bern')",
        [entity, moment, json.dumps(features), features.pop("use_case", "rides")],
    )


def write_label(
    connection: psycopg.Connection[Any],
    entity: uuid.UUID,
    moment: datetime,
    label: Any,
    known_at: datetime,
    region: str = "Bern",
) -> None:
    connection.execute(
        "INSERT INTO platform.labels VALUES (%s, %s, 'rides', %s, %s, %s::text::jsonb)",
        [entity, moment, region, known_at, json.dumps(label)],
    )


@pytest.mark.parametrize("partitions", ["as they are", "cut anew"])
def test_each_label_meets_the_newest_vector_not_after_it_in_the_part_that_knew_it_in_time(
    settings: Settings, partitions: str
) -> None:
    """Few entities and moments on the hour, so that equal times, gaps, other use cases and late labels meet often."""
    dice = random.Random(5)
    entities = [uuid.UUID(int=dice.getrandbits(128)) for _ in range(24)]
    hours = range(0, 24 * 21, 6)
    vectors: dict[tuple[uuid.UUID, int], dict[str, Any]] = {}
    labels: list[tuple[int, uuid.UUID, Any, int]] = []
    with connect(settings) as connection:
        if partitions == "cut anew":
            connection.execute("DROP TABLE platform.labels_3")
            for remainder in (3, 11):
                connection.execute(
                    f"CREATE TABLE platform.labels_3_{remainder} PARTITION OF platform.labels"
                    f" FOR VALUES WITH (MODULUS 16, REMAINDER {remainder})"
                )
        for entity in entities:
            for hour in dice.sample(hours, 25):
                features = {"level": dice.choice([None, 1.5, -0.1, 3]), "kind": dice.choice([None, "a", "ü\t"])}
                features["wet"] = dice.choice([None, True, False])
                foreign = dice.random() < 0.2
                use_case = "walks" if foreign else "rides"
                write_vector(connection, entity, START + timedelta(hours=hour), use_case=use_case, **features)
                if not foreign:
                    vectors[entity, hour] = features
            for hour in dice.sample(hours, 50):
                label, known, region = dice.choice([0, 1, "late", 2.5]), hour + dice.choice([0, 3, 60]), "Bern"
                if dice.random() < 0.1:
                    region = "Basel"
                else:
                    labels.append((hour, entity, label, known))
                moments = [START + timedelta(hours=each) for each in (hour, known)]
                write_label(connection, entity, moments[0], label, moments[1], region)

    expected: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for hour, entity, label, known in sorted(labels):
        for name, (first, last) in zip(PARTS, PART_DAYS, strict=True):
            if (first is None or hour >= first * 24) and hour < last * 24 and known <= last * 24:
                candidates = [moment for other, moment in vectors if other == entity and moment <= hour]
                if candidates:
                    found = vectors[entity, max(candidates)]
                    wet = None if found["wet"] is None else str(found["wet"]).lower()
                    level = None if found["level"] is None else float(found["level"])
                    text = label if isinstance(label, str) else json.dumps(label)
                    expected[name].append({"_label": text, "level": level, "kind": found["kind"], "wet": wet})

    parts = training_set(settings, RIDES, "Bern", SCHEMA, WINDOW)
    assert {name: table.drop_columns(list(KEYS)).to_pylist() for name, table in parts.items()} == expected
    assert all(len(rows) > 20 for rows in expected.values())


CROWD = 70_000


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """150,000 labels, 70,000 of them of one moment; every third has a vector of an hour before only."""
    settings: Settings = request.getfixturevalue(getattr(request, "param", "settings"))
    with connect(settings) as connection:
        connection.execute("DELETE FROM platform.labels WHERE use_case = 'many'")
        connection.execute("DELETE FROM platform.features WHERE use_case = 'many'")
        connection.execute(
            """
            CREATE TEMPORARY TABLE made ON COMMIT DROP AS
            SELECT md5(i::text)::uuid AS entity_id, i AS number,
                   timestamptz '2024-01-05 12:00+00' + CASE WHEN i < %(crowd)s THEN interval '0'
                       ELSE ((i * 7919) %% 1200000) * interval '1 second' - interval '4 days' END AS event_time
            FROM generate_series(1, 150000) i
            """,
            {"crowd": CROWD},
        )
        connection.execute(
            """
            INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region)
            SELECT entity_id, event_time - CASE WHEN number %% 3 = 0 THEN interval '1 hour' ELSE interval '0' END,
                   jsonb_build_object('level', number / 8.0, 'kind', 'kind ' || number %% 5, 'wet', number %% 2 = 0),
                   'many', 'Bern' FROM made
            """,
            {},
        )
        connection.execute(
            "INSERT INTO platform.labels SELECT entity_id, event_time, 'many', 'Bern', event_time, '1' FROM made"
        )
    yield settings
    with connect(settings) as connection:
        connection.execute("DELETE FROM platform.labels WHERE use_case = 'many'")


def numbers_in_order(settings: Settings) -> list[int]:
    with connect(settings) as connection:
        rows = connection.execute(
            "SELECT l.entity_id, l.event_time, (f.feature_vector ->> 'level')::float8 * 8 FROM platform.labels l"
            " JOIN platform.features f USING (entity_id) WHERE l.use_case = 'many' AND f.use_case = 'many'"
        ).fetchall()
    return [int(number) for entity, moment, number in sorted(rows, key=lambda row: (row[1], row[0]))]


both_ways = pytest.mark.parametrize("many", ["settings", "pooled_settings"], indirect=True)


@both_ways
def test_slices_read_side_by_side_give_every_row_once_in_order_however_crowded_a_moment_is(many: Settings) -> None:
    expected = numbers_in_order(many)
    assert len(expected) == 150_000
    read: list[int] = []
    sizes = []
    for _, rows in training_batches(many, MANY, "Bern", SCHEMA, WINDOW, workers=3):
        read += [round(level * 8) for level in rows["level"].to_pylist()]
        sizes.append(len(rows))
    assert read == expected
    assert max(sizes) < CROWD / 2


@both_ways
def test_what_is_written_while_slices_are_read_is_not_seen(many: Settings) -> None:
    expected = numbers_in_order(many)
    batches = training_batches(many, MANY, "Bern", SCHEMA, WINDOW, workers=2)
    read = next(batches)[1]["level"].to_pylist()
    with connect(many) as connection:
        connection.execute(
            "UPDATE platform.features SET feature_vector = '{\"level\": -1}' WHERE use_case = 'many' AND event_time"
            " > '2024-01-06 00:00+00'"
        )
        connection.execute("DELETE FROM platform.labels WHERE use_case = 'many' AND event_time > '2024-01-06 00:00+00'")
    for _, rows in batches:
        read += rows["level"].to_pylist()
    assert [round(level * 8) for level in read] == expected


def test_a_reader_who_stops_early_leaves_no_query_behind(many: Settings) -> None:
    batches = training_batches(many, MANY, "Bern", SCHEMA, WINDOW, workers=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    with connect(many) as connection:
        busy = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state <> 'idle' AND backend_type = 'client backend'"
        ).fetchone()
    assert busy == (0,)


def test_a_server_that_goes_away_while_rows_arrive_is_told_as_unavailable(many: Settings) -> None:
    batches = training_batches(many, MANY, "Bern", SCHEMA, WINDOW, workers=2)
    next(batches)
    with connect(many) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle' AND backend_type = 'client backend'"
        )
    with pytest.raises(DatabaseUnavailable, match="training rows of many/Bern failed: .* did not answer"):
        list(batches)


def test_a_stored_value_of_another_type_is_refused_by_its_value(settings: Settings) -> None:
    with connect(settings) as connection:
        write_vector(connection, uuid.UUID(int=1), START, level="high", kind="a", wet=True)
        write_label(connection, uuid.UUID(int=1), START, 1, START)
    with pytest.raises(FeaturesInvalid, match='vectors of rides do not fit the schema: .*"high"'):
        training_set(settings, RIDES, "Bern", SCHEMA, WINDOW)


def test_files_hold_what_the_tables_hold_and_only_that_of_the_test_part_the_keys(
    settings: Settings, tmp_path: Path
) -> None:
    with connect(settings) as connection:
        for day in (1, 2, 12, 18, 19):
            write_vector(connection, uuid.UUID(int=day), START + timedelta(day), level=day, kind=f"k{day}", wet=False)
            write_label(connection, uuid.UUID(int=day), START + timedelta(day), 1, START + timedelta(day))
    tables = training_set(settings, RIDES, "Bern", SCHEMA, WINDOW)
    seen = RowsFingerprint()
    files = training_files(settings, RIDES, "Bern", SCHEMA, WINDOW, tmp_path, witness=seen.add)
    assert seen.hexdigest() == _fingerprint_of(files)
    bare = {name: table.drop_columns(list(KEYS)) for name, table in tables.items()}
    assert {name: pq.read_table(file) for name, file in files.items()} == {**bare, "test": tables["test"]}
    assert {name: table["level"].to_pylist() for name, table in tables.items()} == {
        "train": [1, 2], "validate": [12], "blend": [], "test": [18, 19],
    }  # fmt: skip
    assert [entity.hex() for entity in tables["test"]["_entity_id"].to_pylist()] == [f"{day:032x}" for day in (18, 19)]


def _fingerprint_of(files: dict[str, Path]) -> str:
    """That of the rows read back from the files, as every version before this had it recorded."""
    read = RowsFingerprint()
    for name, file in files.items():
        for batch in pq.ParquetFile(file).iter_batches():
            read.add(name, batch)
    return read.hexdigest()


def test_all_regions_together_come_with_the_region_as_a_feature_and_thinned_where_asked(settings: Settings) -> None:
    """Two hundred labels before the end of the training part, twenty after it, in two regions by turns."""
    with connect(settings) as connection:
        for number in range(220):
            moment = START + timedelta(1 if number < 200 else 18, seconds=number)
            write_vector(connection, uuid.UUID(int=number), moment, level=number, kind="k", wet=True)
            write_label(connection, uuid.UUID(int=number), moment, number / 2, moment, ("Bern", "Chur")[number % 2])
    schema = InputSchema(columns={**SCHEMA.columns, "city": FeatureColumn(type="category")})
    numbers = RIDES.model_copy(update={"target": RIDES.target.model_copy(update={"kind": "regression"})})
    parts = training_set(settings, numbers, POOLED, schema, WINDOW)
    assert {name: len(table) for name, table in parts.items()} == {"train": 200, "validate": 0, "blend": 0, "test": 20}
    assert parts["train"]["city"].to_pylist() == parts["train"]["_region"].to_pylist() == ["Bern", "Chur"] * 100
    assert parts["train"]["_label"].to_pylist() == [number / 2 for number in range(200)]
    halves = [
        list(training_batches(settings, numbers, POOLED, schema, WINDOW, train_share=0.5)) for _ in range(2)
    ]  # fmt: skip
    assert halves[0] == halves[1]
    kept = {name: sum(len(rows) for part, rows in halves[0] if part == name) for name in PARTS}
    assert 70 < kept["train"] < 130  # of 200 by the toss of a coin: within four standard deviations
    assert kept["test"] == 20


def test_a_region_without_labels_has_four_empty_tables_with_their_types(settings: Settings) -> None:
    parts = training_set(settings, RIDES, "Bern", SCHEMA, WINDOW)
    keys = [("_entity_id", pa.binary(16)), ("_event_time", pa.timestamp("us", "UTC")), ("_region", pa.string())]
    features = [("level", pa.float64()), ("kind", pa.string()), ("wet", pa.string())]
    row = pa.schema([*keys, ("_label", pa.string()), *features])
    assert {name: (len(table), table.schema) for name, table in parts.items()} == dict.fromkeys(PARTS, (0, row))
