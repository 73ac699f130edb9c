"""Ingest and the training read, against a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mage_platform.contracts import TrainingWindow, UseCase, entity_id_of
from mage_platform.database import connect
from mage_platform.errors import EntityNotFound, FeaturesInvalid
from mage_platform.features.history import newest_vector
from mage_platform.features.ingest import ingest
from mage_platform.features.training_set import labelled_rows_by_region, training_set
from mage_platform.features.vectors import build_vectors
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    demo.write_use_case(settings.use_cases_folder)
    return load_use_case(settings, demo.NAME)


@pytest.fixture
def vectors(settings: Settings, use_case: UseCase) -> pd.DataFrame:
    return build_vectors(settings, use_case, load_rows(settings, use_case))


def test_the_same_ingest_twice_changes_nothing(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> None:
    with connect(settings) as connection:
        first = ingest(connection, use_case, vectors)
    with connect(settings) as connection:
        before = connection.execute("SELECT sum(hashtext(f::text)) FROM platform.features f").fetchone()
        second = ingest(connection, use_case, vectors)
        after = connection.execute("SELECT sum(hashtext(f::text)) FROM platform.features f").fetchone()
    assert (first.inserted, first.updated, first.labels_inserted) == (1200, 0, 1200)
    assert (second.inserted, second.updated, second.labels_inserted, second.labels_updated) == (0, 0, 0, 0)
    assert before == after


def test_only_changed_vectors_are_touched(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> None:
    with connect(settings) as connection:
        ingest(connection, use_case, vectors)
    vectors.loc[[0, 7], "hour"] = 5
    vectors.loc[9, "_label"] = 1 - vectors.loc[9, "_label"]
    with connect(settings) as connection:
        report = ingest(connection, use_case, vectors)
    assert (report.inserted, report.updated, report.labels_updated) == (0, 2, 1)


def test_two_ingests_at_once_leave_each_vector_once(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    def load(_: int) -> None:
        with connect(settings) as connection:
            ingest(connection, use_case, vectors)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(load, range(3)))
    with connect(settings) as connection:
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (1200,)


def test_what_was_stored_comes_back_unchanged_through_awkward_text(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    awkward = 'tab\t, newline\n, back\\slash, "quotes", \\N and ünï'
    vectors = vectors.head(2).copy()
    vectors.loc[0, "carrier"] = awkward
    vectors.loc[0, "rain_millimetres"] = 0.1 + 0.2
    vectors.loc[1, "rain_millimetres"] = float("nan")
    with connect(settings) as connection:
        ingest(connection, use_case, vectors)
        first = newest_vector(connection, entity_id_of(demo.NAME, ["Bern-0"]))
        second = newest_vector(connection, entity_id_of(demo.NAME, ["Bern-1"]))
    assert first.vector.features["carrier"] == awkward
    assert first.vector.features["rain_millimetres"] == 0.1 + 0.2
    assert second.vector.features["rain_millimetres"] is None
    assert first.label in (0, 1)


def test_an_entity_without_vectors_is_not_found_by_its_id(settings: Settings) -> None:
    entity = entity_id_of(demo.NAME, ["nobody"])
    with connect(settings) as connection, pytest.raises(EntityNotFound, match=str(entity)):
        newest_vector(connection, entity)


def test_rows_that_share_entity_and_moment_are_refused(settings: Settings, use_case: UseCase) -> None:
    rows = load_rows(settings, use_case)
    with pytest.raises(FeaturesInvalid, match="1 rows share entity and event time"):
        build_vectors(settings, use_case, pd.concat([rows, rows.head(1)], ignore_index=True))


def test_a_target_that_is_neither_0_nor_1_is_refused(settings: Settings, use_case: UseCase) -> None:
    rows = load_rows(settings, use_case)
    rows.loc[4, "late"] = 3
    with pytest.raises(FeaturesInvalid, match="3 is neither 0 nor 1"):
        build_vectors(settings, use_case, rows)


def test_a_label_joins_the_newest_vector_not_after_it(settings: Settings, use_case: UseCase) -> None:
    """Three vectors of one entity; the label of noon must meet the one of eleven, not the one of one o'clock."""
    noon = datetime(2024, 2, 1, 12, tzinfo=UTC)
    window = use_case.training.window
    with connect(settings) as connection:
        for hours, value in ((-2, 1), (-1, 2), (1, 3)):
            connection.execute(
                "INSERT INTO platform.features VALUES (%s, %s, %s::text::jsonb, 'rides', 'Bern')",
                [
                    entity_id_of("rides", ["x"]),
                    noon + timedelta(hours=hours),
                    f'{{"hour": {value}, "carrier": "a", "rain_millimetres": null, "is_weekend": true}}',
                ],
            )
        connection.execute(
            "INSERT INTO platform.labels VALUES (%s, %s, 'rides', 'Bern', %s, '1')",
            [entity_id_of("rides", ["x"]), noon, noon + timedelta(hours=3)],
        )
        assert labelled_rows_by_region(connection, "rides", window) == {"Bern": 1}
    parts = training_set(settings, use_case, "Bern", use_case.input_schema, window)
    assert {name: len(table) for name, table in parts.items()} == {"train": 1, "validate": 0, "blend": 0, "test": 0}
    assert parts["train"].to_pylist() == [
        {
            "_entity_id": entity_id_of("rides", ["x"]).bytes, "_event_time": noon, "_region": "Bern",
            "_label": "1", "hour": 2.0, "carrier": "a", "rain_millimetres": None, "is_weekend": "true",
        }
    ]  # fmt: skip


def test_a_label_not_yet_known_at_the_end_of_its_part_is_left_out(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame
) -> None:
    with connect(settings) as connection:
        ingest(connection, use_case, vectors)
    window = use_case.training.window
    end = pd.Timestamp(window.train_until)
    bern = vectors[vectors["_region"] == "Bern"]
    expected = ((bern["_event_time"] < end) & (bern["_known_at"] <= end)).sum()
    parts = training_set(settings, use_case, "Bern", use_case.input_schema, window)
    assert len(parts["train"]) == expected

    # ten minutes after a booking whose outcome is known after forty
    end = bern["_event_time"].iloc[100] + timedelta(minutes=10)
    shifted = TrainingWindow(**{**window.model_dump(), "train_until": end})
    parts = training_set(settings, use_case, "Bern", use_case.input_schema, shifted)
    assert (bern["_event_time"] < end).sum() == 101
    assert len(parts["train"]) == 100


def test_everything_works_through_pgbouncer(
    pooled_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("use_cases")
    demo.write_use_case(folder)
    settings = pooled_settings.model_copy(update={"use_cases_folder": folder})
    use_case = load_use_case(settings, demo.NAME)
    vectors = build_vectors(settings, use_case, load_rows(settings, use_case))
    with connect(settings) as connection:
        assert ingest(connection, use_case, vectors).vectors == 1200
    parts = training_set(settings, use_case, "Bern", use_case.input_schema, use_case.training.window)
    assert sum(map(len, parts.values())) > 300
