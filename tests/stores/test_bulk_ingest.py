"""Ingest at speed: ids as one by one, bad vectors refused whole, and an index that is rebuilt behind readers' backs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import psycopg
import pytest

from mage_platform.contracts import UseCase, entity_id_of
from mage_platform.database import connect
from mage_platform.errors import FeaturesInvalid
from mage_platform.features import bulk, deferred_index
from mage_platform.features.entity_ids import entity_ids
from mage_platform.features.history import newest_vector
from mage_platform.features.ingest import ingest
from mage_platform.features.vectors import build_vectors
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration

EVERYTHING = (
    "SELECT count(*), "
    "sum(hashtext(f.entity_id::text || f.event_time || f.feature_vector || f.region || f.ingested_at)) "
    "FROM platform.features f"
)
INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'platform' AND indexdef LIKE '%gin%' ORDER BY 1"
)


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    demo.write_use_case(settings.use_cases_folder)
    return load_use_case(settings, demo.NAME)


@pytest.fixture
def vectors(settings: Settings, use_case: UseCase) -> pd.DataFrame:
    return build_vectors(settings, use_case, load_rows(settings, use_case))


@pytest.mark.parametrize(
    "values",
    [
        ["Bern-1", 'quo"te', "back\\slash", "tab\t", "ünï", "漢字", "Bern-1"],
        [1, 2, 1545],
        [1.0, 2.5, -0.0, 1e300],
        [True, False],
        [1, True, "1", 1.0],
        [date(2024, 1, 1), date(2024, 1, 2)],
        pd.to_datetime(["2024-03-31T02:30:00.123456Z", "2024-01-01T00:00:00.000000Z"]),
        [datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5))), datetime(2024, 1, 1, tzinfo=UTC)],
    ],
    ids=["text", "integers", "floats", "truth", "mixed", "dates", "times", "time zones"],
)
def test_ids_of_a_table_are_those_of_its_rows(use_case: UseCase, values: list[object]) -> None:
    given = pd.Series(values, dtype=object if "mixed" in str(values) or not hasattr(values, "dtype") else None)
    for column in (given, given.infer_objects()):
        rows = pd.DataFrame({"ride": column, "other": range(len(column))})
        keyed = use_case.model_copy(update={"entity": use_case.entity.model_copy(update={"key": ["ride", "other"]})})
        singly = [
            str(entity_id_of(demo.NAME, [each.to_pydatetime() if isinstance(each, pd.Timestamp) else each, number]))
            for number, each in enumerate(column.tolist())
        ]
        assert entity_ids(keyed, rows) == singly


def test_a_window_with_its_history_gives_the_vectors_of_the_whole(settings: Settings, use_case: UseCase) -> None:
    """And stored again, they change nothing."""
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
    whole = build_vectors(settings, use_case, load_rows(settings, use_case))
    window = build_vectors(settings, use_case, load_rows(settings, use_case, start=start, end=end), start=start)
    inside = whole[(whole["_event_time"] >= start) & (whole["_event_time"] < end)].reset_index(drop=True)
    assert 100 < len(window) < len(whole)
    pd.testing.assert_frame_equal(window, inside)
    with connect(settings) as connection:
        ingest(connection, use_case, whole)
        before = connection.execute(EVERYTHING).fetchone()
    for _ in range(2):
        with connect(settings) as connection:
            report = ingest(connection, use_case, window)
            assert (report.inserted, report.updated, report.labels_inserted, report.labels_updated) == (0, 0, 0, 0)
    with connect(settings) as connection:
        assert connection.execute(EVERYTHING).fetchone() == before


def test_one_known_vector_that_no_sample_meets_leaves_the_counts_right(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    ordered = vectors.sort_values("_entity_id").reset_index(drop=True)
    for known in (1, 2, 3):
        with connect(settings) as connection:
            connection.execute("TRUNCATE platform.features, platform.labels")
            assert ingest(connection, use_case, ordered.iloc[[known]]).inserted == 1
        changed = vectors.assign(hour=vectors["hour"].where(vectors["_entity_id"] != ordered["_entity_id"][known], 23))
        expected = int(ordered["hour"][known] != 23)
        with connect(settings) as connection:
            report = ingest(connection, use_case, changed)
        assert (report.inserted, report.updated, report.labels_inserted) == (1199, expected, 1199)


def test_two_ingests_of_one_transaction_are_two_ingests(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        ingest(connection, use_case, vectors.head(100))
        ingest(connection, use_case, vectors.head(200))
        assert ingest(connection, use_case, vectors.head(300)).inserted == 100


def _with(vectors: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    changed = vectors.astype({column: object})
    changed.at[700, column] = value
    return changed


@pytest.mark.parametrize(
    ("column", "value", "field", "says"),
    [
        ("_event_time", datetime(2024, 1, 1), "event_time", "not a time with a time zone"),
        ("_event_time", None, "event_time", "is missing"),
        ("_known_at", datetime(2024, 1, 1), "known_at", "not a time with a time zone"),
        ("_known_at", None, "known_at", "is missing beside a label"),
        ("_region", "Be\x00rn", "region", "control characters"),
        ("_region", None, "region", "is no region"),
        ("_region", "a/b", "region", "slashes"),
        ("_entity_id", None, "entity_id", "is not the text of a UUID"),
        ("carrier", "fa\x00st", "features.carrier", "NUL character"),
        ("carrier", "\ud800", "features.carrier", "surrogate"),
        ("carrier", 7, "features.carrier", "is not text"),
        ("rain_millimetres", float("inf"), "features.rain_millimetres", "is infinite"),
        ("rain_millimetres", -1.0, "features.rain_millimetres", "below the declared minimum"),
        ("hour", float("nan"), "features.hour", "is missing"),
        ("hour", 24, "features.hour", "above the declared maximum"),
    ],
)
def test_one_bad_vector_refuses_all_with_field_and_count(
    settings: Settings,
    use_case: UseCase,
    vectors: pd.DataFrame,
    column: str,
    value: object,
    field: str,
    says: str,
) -> None:
    with connect(settings) as connection:
        with pytest.raises(FeaturesInvalid, match=rf"(?s){says}.*1 of 1,200 vectors") as caught:
            ingest(connection, use_case, _with(vectors, column, value))
        assert caught.value.field == field
        connection.commit()  # even a caller that goes on has written nothing
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (0,)


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\x01" * 200_000], ids=["ten megabytes", "long once escaped"])
def test_a_vector_above_one_mebibyte_is_refused_with_entity_and_size(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame, text: str
) -> None:
    large = _with(vectors, "carrier", text)
    with connect(settings) as connection:
        with pytest.raises(FeaturesInvalid, match=r"1 of 1,200 vectors") as caught:
            ingest(connection, use_case, large)
        assert f"entity {large['_entity_id'][700]} has {'10,000,0' if text[0] == 'x' else '1,200,0'}" in str(
            caught.value
        )
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (0,)


def test_a_vector_just_below_one_mebibyte_is_stored(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        ingest(connection, use_case, _with(vectors, "carrier", "é" * 520_000))
        stored = newest_vector(connection, entity_id_of(demo.NAME, [f"{demo.CITIES[1]}-300"]))
    assert stored.vector.features["carrier"] == "é" * 520_000


def test_twins_and_what_only_postgresql_notices_are_refused(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        with pytest.raises(FeaturesInvalid, match="same entity and event time"):
            ingest(connection, use_case, pd.concat([vectors, vectors.tail(1)], ignore_index=True))
        with pytest.raises(FeaturesInvalid, match="uuid"):
            ingest(connection, use_case, _with(vectors, "_entity_id", "nobody"))
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (0,)


@pytest.mark.parametrize(
    ("value", "says"),
    [("Be\x00rn", "NUL character"), (None, "rows have no ride"), (datetime(2024, 1, 1), "no time zone")],
)
def test_a_bad_natural_key_is_refused(settings: Settings, use_case: UseCase, value: object, says: str) -> None:
    rows = load_rows(settings, use_case)
    rows.loc[3, "ride"] = value
    with pytest.raises(FeaturesInvalid, match=says) as caught:
        build_vectors(settings, use_case, rows)
    assert caught.value.field == "entity.ride"


def _indexes(settings: Settings) -> list[tuple[str, str]]:
    with connect(settings) as connection:
        return connection.execute(INDEXES).fetchall()


@contextmanager
def _reader(settings: Settings, entity_id: object) -> Iterator[list[float]]:
    """Reads one vector by its key all the time; an error or a wrong answer fails the test."""
    seconds: list[float] = []
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                with connect(settings) as connection:
                    hour = newest_vector(connection, entity_id).vector.features["hour"]  # type: ignore[arg-type]
                    assert isinstance(hour, int)
            except BaseException as error:
                wrong.append(error)
                return
            seconds.append(time.monotonic() - began)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_a_bulk_load_stores_the_same_and_never_fails_a_reader(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    before = _indexes(settings)
    with connect(settings) as connection:
        ingest(connection, use_case, vectors.head(10))
    with _reader(settings, vectors["_entity_id"][0]) as seconds:
        report = bulk.ingest_in_bulk(settings, use_case, vectors)
        again = bulk.ingest_in_bulk(settings, use_case, vectors)
    assert (report.inserted, report.updated, report.labels_inserted) == (1190, 0, 1190)
    assert (again.inserted, again.updated, again.labels_inserted) == (0, 0, 0)
    assert len(seconds) > 10
    assert _indexes(settings) == before
    with connect(settings) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        question = "SELECT count(*) FROM platform.features WHERE feature_vector @> '{\"hour\": 7}'"
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {question}"))
        assert "feature_vector_idx" in plan
        assert connection.execute(question).fetchone() == (int((vectors["hour"] == 7).sum()),)


def test_a_reader_that_stays_only_delays_the_bulk_load(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    with connect(settings) as reader:
        reader.execute("SELECT count(*) FROM platform.features")
        loading = threading.Thread(target=bulk.ingest_in_bulk, args=(settings, use_case, vectors))
        loading.start()
        time.sleep(1.2)
        assert loading.is_alive()
        with connect(settings) as other:  # never queued behind the lock for longer than it waits
            assert other.execute("SELECT count(*) FROM platform.features").fetchone() == (0,)
    loading.join(60)
    with connect(settings) as connection:
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (1200,)


def test_bad_vectors_leave_the_index_in_peace(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> None:
    before = _indexes(settings)
    with pytest.raises(FeaturesInvalid):
        bulk.ingest_in_bulk(settings, use_case, _with(vectors, "hour", 24))
    assert _indexes(settings) == before


@pytest.mark.parametrize("after", ["declared", "one part built", "one part broken", "one attached", "dropped"])
def test_whatever_an_interrupted_load_left_is_mended(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame, after: str
) -> None:
    whole = _indexes(settings)
    with connect(settings) as connection:
        ingest(connection, use_case, vectors)
    with connect(settings) as connection:
        connection.execute("DROP INDEX platform.idx_features_vector_gin")
        if after != "dropped":
            connection.execute(bulk.QUERIES.declare_index)
    part = (
        "CREATE INDEX features_0_feature_vector_idx ON platform.features_0 USING gin (feature_vector jsonb_path_ops) "
    )
    with connect(settings) as connection:
        if after in ("one part built", "one attached", "one part broken"):
            connection.execute(part + "WITH (fastupdate = on, gin_pending_list_limit = 65536)")
        if after == "one attached":
            connection.execute(
                "ALTER INDEX platform.idx_features_vector_gin ATTACH PARTITION platform.features_0_feature_vector_idx"
            )
    if after == "one part broken":
        _interrupt_a_build(settings)
    assert bulk.mend_index(settings)
    assert _indexes(settings) == whole
    with connect(settings) as connection:
        assert connection.execute("SELECT bool_and(indisvalid) FROM pg_index").fetchone() == (True,)


def _interrupt_a_build(settings: Settings) -> None:
    """A concurrent build that is cancelled while it waits for another transaction leaves an invalid index."""
    with connect(settings) as connection:
        connection.execute("DROP INDEX platform.features_0_feature_vector_idx")
    with connect(settings) as writer, connect(settings) as builder:
        writer.execute("LOCK TABLE platform.features_0 IN ROW EXCLUSIVE MODE")
        builder.autocommit = True
        builder.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            builder.execute(
                "CREATE INDEX CONCURRENTLY features_0_feature_vector_idx ON platform.features_0 USING gin "
                "(feature_vector jsonb_path_ops)"
            )


def test_mending_leaves_a_running_load_alone(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("DROP INDEX platform.idx_features_vector_gin")
        connection.execute(bulk.QUERIES.declare_index)
    with connect(settings) as load:
        load.execute(deferred_index.QUERIES.begin_load)
        assert not bulk.mend_index(settings)
    assert bulk.mend_index(settings)


def test_numbers_come_back_to_the_last_bit(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> None:
    exact = np.random.default_rng(3).uniform(0, 500, len(vectors))
    exact[:4] = [0.1 + 0.2, 5e-324, 499.99999999999994, 0.0]
    with connect(settings) as connection:
        ingest(connection, use_case, vectors.assign(rain_millimetres=exact))
        stored = {
            str(entity): value
            for entity, value in connection.execute(
                "SELECT entity_id, (feature_vector ->> 'rain_millimetres')::float8 FROM platform.features"
            )
        }
    assert [stored[entity] for entity in vectors["_entity_id"]] == exact.tolist()
