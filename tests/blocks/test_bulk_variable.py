"""The variable `bulk` of ingest_features, through the block that Mage runs, on a real PostgreSQL."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from mage_platform.contracts import entity_id_of
from mage_platform.database import connect
from mage_platform.features.history import newest_vector
from mage_platform.features.vectors import build_vectors
from mage_platform.local.surroundings import setting_variables
from mage_platform.settings import PROJECT, Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

pytestmark = pytest.mark.integration

INDEXES = """
    SELECT c.relname, c.oid, i.indisvalid AND i.indisready
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = 'gin' ORDER BY c.relname
"""


@pytest.fixture
def vectors(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The vectors of the rides; the environment leads a block to the test's database."""
    for name, value in setting_variables(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLATFORM_DATABASE_PASSWORD", settings.database_password.get_secret_value())
    demo.write_use_case(settings.use_cases_folder)
    use_case = load_use_case(settings, demo.NAME)
    return build_vectors(settings, use_case, load_rows(settings, use_case))


def export(vectors: pd.DataFrame, **variables: Any) -> dict[str, Any]:
    """What the block returns for these pipeline variables."""
    injected = {"data_exporter": lambda function: function}
    block = runpy.run_path(str(PROJECT / "data_exporters/export_features.py"), init_globals=injected)
    report: dict[str, Any] = block["export_features"](vectors, use_case=demo.NAME, **variables)
    return report


@contextmanager
def readers(settings: Settings, entity: UUID) -> Iterator[list[int]]:
    """Two that read one vector by its key all the time; a failed read fails the test."""
    seen: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                with connect(settings) as connection:
                    seen.append(newest_vector(connection, entity).vector.features["hour"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def indexes(settings: Settings) -> dict[str, tuple[int, bool]]:
    with connect(settings) as connection:
        return {name: (oid, valid) for name, oid, valid in connection.execute(INDEXES)}


def test_a_bulk_ingest_disturbs_no_reader_and_leaves_a_new_valid_index(
    settings: Settings, vectors: pd.DataFrame
) -> None:
    ordinary = export(vectors.head(10), bulk="false")
    assert (ordinary["inserted"], ordinary["labels_inserted"]) == (10, 10)
    before = indexes(settings)
    hour = int(vectors["hour"][0])
    with readers(settings, entity_id_of(demo.NAME, [f"{demo.CITIES[0]}-0"])) as seen:
        first = export(vectors, bulk="true")
        again = export(vectors, bulk=True)
    assert (first["inserted"], first["updated"], first["labels_inserted"]) == (1190, 0, 1190)
    assert (again["inserted"], again["updated"], again["labels_inserted"]) == (0, 0, 0)
    assert len(seen) > 10
    assert set(seen) == {hour}

    after = indexes(settings)
    assert after.keys() == before.keys()
    assert len(after) == 9  # of the table and its eight partitions
    assert all(valid for _, valid in after.values())
    assert not {oid for oid, _ in after.values()} & {oid for oid, _ in before.values()}, "made anew"
    with connect(settings) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        question = f"SELECT count(*) FROM platform.features WHERE feature_vector @> '{{\"hour\": {hour}}}'"
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {question}"))
        assert "_feature_vector_idx" in plan
        assert connection.execute(question).fetchone() == (int((vectors["hour"] == hour).sum()),)


def test_without_the_variable_the_index_stays_as_it_is(settings: Settings, vectors: pd.DataFrame) -> None:
    before = indexes(settings)
    assert export(vectors)["inserted"] == len(vectors)
    assert indexes(settings) == before
