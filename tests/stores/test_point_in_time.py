"""The point-in-time join and the revisions beneath it, against a brute-force oracle in plain Python."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.point_in_time import VECTOR_EVENT_TIME, point_in_time_join
from mage_platform.settings import Settings

pytestmark = pytest.mark.integration

USE_CASE = "rides"
START = datetime(2024, 3, 30, 22, tzinfo=UTC)  # Zürich's clocks go forward in the night that follows
ENTITIES = [uuid.UUID(int=(number << 96) + 7) for number in (1, 2, 3)]
STRANGER = uuid.UUID(int=99)
SCHEMA = InputSchema(
    columns={
        "level": FeatureColumn(type="number", missing="allowed"),
        "count": FeatureColumn(type="integer"),
        "kind": FeatureColumn(type="category", missing="allowed"),
        "wet": FeatureColumn(type="boolean"),
    }
)


@dataclass(frozen=True)
class Revision:
    """One revision of one vector; `superseded` is None for the present one. Times in minutes since START."""

    entity: int
    minute: int
    ingested: int
    superseded: int | None
    features: dict[str, Any]


@dataclass(frozen=True)
class Label:
    entity: uuid.UUID
    minute: int
    zone: Any


def moment(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


# few minutes and few entities, so that equal times, late rows and gaps meet all the time
MINUTES = st.integers(0, 40)
FEATURES = st.fixed_dictionaries(
    {
        "level": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "count": st.integers(-(2**53), 2**53),
        "kind": st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=4),
        "wet": st.booleans(),
    }
)
ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Zurich"), timezone(timedelta(hours=-9, minutes=-30))])
LABELS = st.lists(
    st.builds(Label, st.sampled_from([*ENTITIES, STRANGER]), st.integers(-3, 45), ZONES), min_size=0, max_size=12
)


@st.composite
def histories(draw: st.DrawFn) -> list[Revision]:
    """Revisions of some vectors, each vector's following one upon the other; some vectors were removed at the end."""
    made = []
    for entity, minute in draw(st.sets(st.tuples(st.integers(0, 2), MINUTES), max_size=8)):
        ends: list[int | None] = sorted(draw(st.sets(MINUTES, min_size=1, max_size=4)))
        starts = ends[:-1] if draw(st.booleans()) and len(ends) > 1 else ends
        spans = list(zip(starts, [*ends[1:], None], strict=False))
        made += [Revision(entity, minute, start or 0, end, draw(FEATURES)) for start, end in spans]
    return made


def expected(
    history: list[Revision], label: Label, maximum_age: timedelta | None, as_known_then: bool
) -> Revision | None:
    """The rules, word for word."""
    best: Revision | None = None
    for each in history:
        if ENTITIES[each.entity] != label.entity or each.minute > label.minute:
            continue
        if maximum_age is not None and moment(label.minute) - moment(each.minute) > maximum_age:
            continue
        if as_known_then:
            if each.ingested > label.minute or (each.superseded is not None and each.superseded <= label.minute):
                continue
        elif each.superseded is not None:
            continue
        if best is None or each.minute > best.minute:
            best = each
    return best


def store(connection: Connection, history: list[Revision]) -> None:
    """Write a history as it would lie there after these ingests."""
    connection.execute("TRUNCATE platform.features, platform.feature_revisions")
    for each in history:
        row = [ENTITIES[each.entity], moment(each.minute), json.dumps(each.features), moment(each.ingested)]
        if each.superseded is None:
            connection.execute(
                "INSERT INTO platform.features (entity_id, event_time, feature_vector, ingested_at, use_case, region)"
                " VALUES (%s, %s, %s::text::jsonb, %s, 'rides', 'Bern')",
                row,
            )
        else:
            connection.execute(
                "INSERT INTO platform.feature_revisions"
                " (entity_id, event_time, feature_vector, ingested_at, superseded_at, use_case, region)"
                " VALUES (%s, %s, %s::text::jsonb, %s, %s, 'rides', 'Bern')",
                [*row, moment(each.superseded)],
            )


def as_row(place: int, label: Label, found: Revision | None) -> dict[str, Any]:
    values = found.features if found else dict.fromkeys(SCHEMA.names)
    return {
        "place": place,
        VECTOR_EVENT_TIME: moment(found.minute) if found else None,
        "level": values["level"],
        "count": None if values["count"] is None else float(values["count"]),
        "kind": values["kind"],
        "wet": None if values["wet"] is None else str(values["wet"]).lower(),
    }


@pytest.fixture(params=["direct", "through PgBouncer"])
def store_settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    name = "settings" if request.param == "direct" else "pooled_settings"
    found: Settings = request.getfixturevalue(name)
    yield found
    if request.param != "direct":
        with connect(found) as connection:
            connection.execute("TRUNCATE platform.features, platform.feature_revisions")


@hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    history=histories(),
    labels=LABELS,
    age=st.none() | st.integers(0, 30).map(lambda minutes: timedelta(minutes=minutes)),
    known=st.booleans(),
)
def test_the_join_gives_what_the_written_rules_give(
    store_settings: Settings, history: list[Revision], labels: list[Label], age: timedelta | None, known: bool
) -> None:
    with connect(store_settings) as connection:
        store(connection, history)
    given_labels = pd.DataFrame(
        {
            "entity_id": [label.entity for label in labels],
            "event_time": pd.Series([moment(label.minute).astimezone(label.zone) for label in labels], dtype=object),
            "place": range(len(labels)),
        }
    )
    joined = point_in_time_join(store_settings, USE_CASE, given_labels, SCHEMA, maximum_age=age, as_known_then=known)
    assert joined.drop_columns(["entity_id", "event_time"]).to_pylist() == [
        as_row(place, label, expected(history, label, age, known)) for place, label in enumerate(labels)
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_many_labels_keep_their_places_however_many_connections_share_them(settings: Settings, workers: int) -> None:
    """Vector k of every entity is true at minute 10 k: a label at minute m must meet vector m // 10."""
    with connect(settings) as connection:
        store(
            connection,
            [
                Revision(
                    entity, 10 * k, 0, None, {"level": k / 3, "count": k, "kind": f"{entity}é{k}", "wet": k % 2 == 0}
                )
                for entity in range(3)
                for k in range(10)
            ],
        )
    count = 20_011
    minutes = [(7 * row) % 100 for row in range(count)]
    labels = pa.table(
        {
            "entity_id": [str(ENTITIES[row % 3]) for row in range(count)],
            "event_time": pa.array([moment(minute) for minute in minutes], pa.timestamp("ns", tz="Europe/Zurich")),
        }
    )
    joined = point_in_time_join(settings, USE_CASE, labels, SCHEMA, workers=workers)
    assert joined.select(["entity_id", "event_time"]).equals(labels)
    assert joined["count"].to_pylist() == [minute // 10 for minute in minutes]
    assert joined["kind"].to_pylist() == [f"{row % 3}é{minute // 10}" for row, minute in enumerate(minutes)]


def test_a_join_sees_an_ingest_that_ends_meanwhile_as_a_whole_or_not_at_all(settings: Settings) -> None:
    """Two connections and a writer that sets all vectors to one number at a time."""
    history = [Revision(entity, 0, 0, None, {"level": 0.0, "count": 0, "kind": "", "wet": True}) for entity in range(3)]
    with connect(settings) as connection:
        store(connection, history)
    labels = pa.table({"entity_id": [str(each) for each in ENTITIES] * 4_000, "event_time": [moment(5)] * 12_000})

    def write() -> None:
        for number in range(1, 40):
            with connect(settings) as connection:
                connection.execute(
                    "UPDATE platform.features"
                    " SET feature_vector = feature_vector || jsonb_build_object('count', %s::int)",
                    [number],
                )

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            joined = point_in_time_join(settings, USE_CASE, labels, SCHEMA, workers=2)
            assert len(set(joined["count"].to_pylist())) == 1
        writing.result()


def write_count(connection: Connection, count: int, region: str = "Bern") -> None:
    connection.execute(
        "INSERT INTO platform.features AS t (entity_id, event_time, feature_vector, use_case, region)"
        " VALUES (%s, %s, jsonb_build_object('count', %s::int), 'rides', %s)"
        " ON CONFLICT (entity_id, event_time) DO UPDATE"
        " SET feature_vector = excluded.feature_vector, region = excluded.region, ingested_at = now()",
        [ENTITIES[0], START, count, region],
    )


def the_moment(settings: Settings) -> datetime:
    with connect(settings) as connection:
        (now,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert isinstance(now, datetime)
    return now


def known_at(settings: Settings, moments: list[datetime]) -> list[Any]:
    labels = pd.DataFrame({"entity_id": str(ENTITIES[0]), "event_time": moments})
    schema = InputSchema(columns={"count": SCHEMA.columns["count"]})
    return point_in_time_join(settings, USE_CASE, labels, schema, as_known_then=True)["count"].to_pylist()


def test_a_corrected_vector_does_not_rewrite_what_was_known(settings: Settings) -> None:
    moments = [the_moment(settings)]
    for count in (1, 2, 2, 3):
        with connect(settings) as connection:
            write_count(connection, count)
        moments.append(the_moment(settings))
    with connect(settings) as connection:
        connection.execute("DELETE FROM platform.features")
    moments.append(the_moment(settings))
    with connect(settings) as connection:
        write_count(connection, 4)
    moments.append(the_moment(settings))
    assert known_at(settings, moments) == [None, 1, 2, 2, 3, None, 4]


def test_an_unchanged_vector_leaves_no_revision_and_keeps_no_vector_twice(settings: Settings) -> None:
    with connect(settings) as connection:
        for count, region in ((1, "Bern"), (1, "Bern"), (1, "Basel"), (2, "Basel"), (2, "Basel")):
            write_count(connection, count, region)
        rows = connection.execute(
            "SELECT region, feature_vector ->> 'count' FROM platform.feature_revisions ORDER BY ingested_at"
        ).fetchall()
    assert rows == [("Bern", "1"), ("Basel", "1")]


def test_revisions_of_writers_side_by_side_follow_one_another_without_gap_or_overlap(settings: Settings) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            with connect(settings) as connection:
                write_count(connection, 100 * writer + number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with connect(settings) as connection:
        spans = connection.execute(
            "SELECT ingested_at, superseded_at FROM platform.feature_revisions ORDER BY ingested_at"
        ).fetchall()
        present = connection.execute("SELECT ingested_at FROM platform.features").fetchone()
    assert len(spans) == 99
    assert [end for _, end in spans] == [*(start for start, _ in spans[1:]), *(present or ())]
    assert all(start < end for start, end in spans)


def test_a_rolled_back_correction_leaves_no_trace(settings: Settings) -> None:
    with connect(settings) as connection:
        write_count(connection, 1)
    with connect(settings) as connection:
        write_count(connection, 2)
        connection.rollback()
    assert known_at(settings, [the_moment(settings)]) == [1]


def test_the_maximum_age_is_inclusive_to_the_microsecond(settings: Settings) -> None:
    with connect(settings) as connection:
        store(connection, [Revision(0, 0, 0, None, {"level": 1, "count": 1, "kind": "a", "wet": True})])
    microsecond = timedelta(microseconds=1)
    times = [START + timedelta(days=2), START + timedelta(days=2) + microsecond, START, START - microsecond]
    labels = pd.DataFrame({"entity_id": str(ENTITIES[0]), "event_time": times})
    joined = point_in_time_join(settings, USE_CASE, labels, SCHEMA, maximum_age=timedelta(days=2))
    assert joined["count"].to_pylist() == [1, None, 1, None]


ID = str(ENTITIES[0])


@pytest.mark.parametrize(
    ("ids", "moments", "field", "sentence"),
    [
        ([ID], [datetime(2024, 1, 1)], "labels.event_time", "no time zone"),
        ([ID, ID], [START, datetime(2024, 1, 1)], "labels.event_time", "row 1 has no time zone"),
        ([ID, None], [START, START], "labels.entity_id", "1 of 2 are missing, the first in row 1"),
        ([ID, ID], [START, None], "labels.event_time", "1 of 2 are missing, the first in row 1"),
        ([ID, "anna"], [START, START], "labels.entity_id", "row 1 is 'anna', not a UUID"),
        ([ID, "g" + ID[1:]], [START, START], "labels.entity_id", "row 1 is 'g0000001"),
        ([ID, ID.replace("-", "0")], [START, START], "labels.entity_id", "row 1"),
        ([7], [START], "labels.entity_id", "int64, not the text of UUIDs"),
        ([ID], ["2024-01-01"], "labels.event_time", "not a datetime with a time zone"),
        ([ID], [12.5], "labels.event_time", "not timestamps with a time zone"),
    ],
)
def test_wrong_keys_are_refused_by_name_before_anything_is_sent(
    ids: list[Any], moments: list[Any], field: str, sentence: str
) -> None:
    labels = pd.DataFrame({"entity_id": ids, "event_time": moments})
    unreachable = Settings().model_copy(update={"database": Settings().database.model_copy(update={"port": 1})})
    with pytest.raises(FeaturesInvalid, match=sentence) as caught:
        point_in_time_join(unreachable, USE_CASE, labels, SCHEMA)
    assert caught.value.field == field


def test_labels_without_a_key_or_with_a_feature_of_their_own_are_refused_by_name(settings: Settings) -> None:
    labels = pd.DataFrame({"entity_id": [ID], "event_time": [START]})
    with pytest.raises(FeaturesInvalid, match="0 columns 'event_time'"):
        point_in_time_join(settings, USE_CASE, labels[["entity_id"]], SCHEMA)
    with pytest.raises(FeaturesInvalid, match="a column 'kind'"):
        point_in_time_join(settings, USE_CASE, labels.assign(kind="x"), SCHEMA)
    with pytest.raises(FeaturesInvalid, match="negative"):
        point_in_time_join(settings, USE_CASE, labels, SCHEMA, maximum_age=timedelta(days=-1))


def test_a_stored_vector_that_does_not_fit_the_schema_is_named_as_such(settings: Settings) -> None:
    with connect(settings) as connection:
        store(connection, [Revision(0, 0, 0, None, {"level": "high", "count": 1, "kind": "a", "wet": True})])
    labels = pd.DataFrame({"entity_id": [ID], "event_time": [START]})
    with pytest.raises(FeaturesInvalid, match='do not fit the schema.*"high"'):
        point_in_time_join(settings, USE_CASE, labels, SCHEMA)
