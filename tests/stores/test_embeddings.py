"""Embeddings in a real PostgreSQL with pgvector, held against cosine distances computed by numpy."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import psycopg
import pytest
import structlog
from click.testing import CliRunner

from mage_platform.command_line import entities
from mage_platform.contracts import entity_id_of
from mage_platform.database import connect, migrations
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, EntityNotFound, FeaturesInvalid
from mage_platform.features import bulk, deferred_index
from mage_platform.features.bulk import store_embeddings_in_bulk
from mage_platform.features.embeddings import similar, store_embeddings
from mage_platform.local.passwords import keep_passwords
from mage_platform.settings import Settings

pytestmark = pytest.mark.integration

NOON = datetime(2024, 2, 1, 12, tzinfo=UTC)
ENTITIES = 300


def _ids(count: int = ENTITIES, use_case: str = "rides") -> list[UUID]:
    return [entity_id_of(use_case, [number]) for number in range(count)]


def _store_vectors(
    connection: Connection, ids: list[UUID], moment: datetime = NOON, *, use_case: str = "rides"
) -> None:
    connection.cursor().executemany(
        "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
        "VALUES (%s, %s, '{\"hour\": 1}', %s, 'Bern')",
        [(each, moment, use_case) for each in ids],
    )


def _matrix(count: int = ENTITIES, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 768)).astype(np.float32)


def _cosine_distances(matrix: np.ndarray, probe: np.ndarray) -> np.ndarray:
    wide, one = matrix.astype(np.float64), probe.astype(np.float64)
    return 1 - wide @ one / (np.linalg.norm(wide, axis=1) * np.linalg.norm(one))


def _as_superuser(database_server: Settings, settings: Settings, statement: str) -> None:
    with psycopg.connect(
        host=settings.database.host,
        port=settings.database.port,
        dbname=settings.database.name,
        user="postgres",
        password=keep_passwords(database_server).postgres_superuser.get_secret_value(),
    ) as connection:
        connection.execute(statement)


@pytest.fixture
def without_pgvector(database_server: Settings, settings: Settings) -> Settings:
    """A database in which the extension was never created, and a role that may not create it."""
    with connect(settings) as connection:
        connection.execute("DROP SCHEMA platform CASCADE")
    _as_superuser(database_server, settings, "DROP EXTENSION vector")
    migrations.apply(settings)
    return settings


@pytest.fixture
def with_pgvector(database_server: Settings, settings: Settings) -> Settings:
    """A database that has the extension and the column."""
    _as_superuser(database_server, settings, "CREATE EXTENSION IF NOT EXISTS vector")
    migrations.apply(settings)
    return settings


def test_every_bit_of_an_embedding_comes_back(with_pgvector: Settings) -> None:
    ids, matrix = _ids(), _matrix()
    matrix[0, :3] = [1e-38, -3.4e38, 1 / 3]
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        report = store_embeddings(connection, "rides", ids, [NOON] * ENTITIES, matrix)
        rows = dict(connection.execute("SELECT entity_id, embedding::real[] FROM platform.features").fetchall())
    assert (report.given, report.matched, report.written) == (ENTITIES, ENTITIES, ENTITIES)
    assert np.array_equal(np.array([rows[each] for each in ids], dtype=np.float32), matrix)


def test_only_stored_vectors_of_the_use_case_are_matched_and_only_changed_ones_written(
    with_pgvector: Settings,
) -> None:
    ids, matrix = _ids(4), _matrix(4)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids[:2])
        _store_vectors(connection, ids[2:3], use_case="other")
        first = store_embeddings(connection, "rides", ids, [NOON] * 4, matrix)
        matrix[1] = -matrix[1]
        second = store_embeddings(connection, "rides", ids, [NOON] * 4, matrix)
        missed = store_embeddings(connection, "rides", ids, [NOON + timedelta(seconds=1)] * 4, matrix)
        count = connection.execute("SELECT count(*), count(embedding) FROM platform.features").fetchone()
    assert (first.given, first.matched, first.written) == (4, 2, 2)
    assert (second.matched, second.written) == (2, 1)
    assert (missed.matched, missed.written) == (0, 0)
    assert count == (3, 2)


def test_an_embedding_changes_neither_the_vector_nor_its_time_of_ingest_and_leaves_no_revision(
    with_pgvector: Settings,
) -> None:
    ids = _ids(3)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
    look = "SELECT entity_id, event_time, feature_vector, region, ingested_at FROM platform.features ORDER BY 1"
    with connect(with_pgvector) as connection:
        before = connection.execute(look).fetchall()
        store_embeddings(connection, "rides", ids, [NOON] * 3, _matrix(3))
        assert connection.execute(look).fetchall() == before
        if connection.execute("SELECT to_regclass('platform.feature_revisions')").fetchone() != (None,):
            assert connection.execute("SELECT count(*) FROM platform.feature_revisions").fetchone() == (0,)


def test_the_nearest_are_those_that_numpy_finds(with_pgvector: Settings) -> None:
    ids, matrix = _ids(), _matrix()
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        store_embeddings(connection, "rides", ids, [NOON] * ENTITIES, matrix)
        connection.execute("ANALYZE platform.features")
        for probe in (0, 17, 299):
            found = similar(connection, ids[probe], k=10)
            distances = _cosine_distances(matrix, matrix[probe])
            nearest = [each for each in np.argsort(distances) if each != probe][:10]
            assert [each.entity_id for each in found] == [ids[each] for each in nearest]
            assert [each.distance for each in found] == pytest.approx(distances[nearest], abs=1e-5)


def test_the_index_alone_finds_nearly_all_of_the_nearest(with_pgvector: Settings) -> None:
    ids, matrix = _ids(), _matrix()
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        store_embeddings(connection, "rides", ids, [NOON] * ENTITIES, matrix)
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        plan = connection.execute(
            "EXPLAIN SELECT 1 FROM platform.features ORDER BY embedding <=> "
            "(SELECT embedding FROM platform.features LIMIT 1) LIMIT 5"
        ).fetchall()
        found = {each.entity_id for each in similar(connection, ids[3], k=20)}
    nearest = [ids[each] for each in np.argsort(_cosine_distances(matrix, matrix[3])) if each != 3][:20]
    assert any("embedding_idx" in line[0] for line in plan)
    assert len(found & set(nearest)) >= 18


def test_an_entity_counts_once_with_its_newest_embedding(with_pgvector: Settings) -> None:
    """Entity 1 was like entity 0 once, and is not any more; its last vector has no embedding yet."""
    ids, matrix = _ids(3), _matrix(3)
    later, last = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        _store_vectors(connection, ids[1:2], later)
        _store_vectors(connection, ids[1:2], last)
        store_embeddings(connection, "rides", ids, [NOON] * 3, matrix[[0, 0, 2]])
        store_embeddings(connection, "rides", ids[1:2], [later], -matrix[:1])
        found = similar(connection, ids[0], k=5)
    assert [(each.entity_id, each.event_time) for each in found] == [(ids[2], NOON), (ids[1], later)]
    assert found[1].distance == pytest.approx(2)


def test_entities_of_another_use_case_are_never_similar(with_pgvector: Settings) -> None:
    ids, others = _ids(5), _ids(50, "other")
    matrix = _matrix(5)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        _store_vectors(connection, others, use_case="other")
        store_embeddings(connection, "rides", ids, [NOON] * 5, matrix)
        store_embeddings(connection, "other", others, [NOON] * 50, np.repeat(matrix[:1], 50, axis=0))
        assert {each.entity_id for each in similar(connection, ids[0], k=10)} == set(ids[1:])


INDEX_PARTS = (
    "SELECT c.oid, c.relname, i.indisvalid, pg_get_indexdef(c.oid) FROM pg_class c "
    "JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' ORDER BY 2"
)


def _index_parts(settings: Settings) -> list[tuple[int, str, bool, str]]:
    with connect(settings) as connection:
        return connection.execute(INDEX_PARTS).fetchall()


def _same_index(before: list[tuple[int, str, bool, str]], after: list[tuple[int, str, bool, str]]) -> bool:
    """Whether it is the very one that was there before, never taken away."""
    assert [each[1:] for each in after] == [each[1:] for each in before]
    assert len(after) == 9 and all(each[2] for each in after)
    return [each[0] for each in after] == [each[0] for each in before]


def test_many_embeddings_are_all_there_and_in_the_index_and_leave_no_revision(with_pgvector: Settings) -> None:
    ids, matrix = _ids(600), _matrix(600)
    look = "SELECT entity_id, event_time, feature_vector, region, ingested_at FROM platform.features ORDER BY 1"
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        before = connection.execute(look).fetchall()
    parts = _index_parts(with_pgvector)
    report = store_embeddings_in_bulk(with_pgvector, "rides", ids, [NOON] * 600, matrix)
    assert (report.given, report.matched, report.written) == (600, 600, 600)
    assert not _same_index(parts, _index_parts(with_pgvector))
    with connect(with_pgvector) as connection:
        assert connection.execute(look).fetchall() == before
        assert connection.execute("SELECT count(*) FROM platform.feature_revisions").fetchone() == (0,)
        rows = dict(connection.execute("SELECT entity_id, embedding::real[] FROM platform.features").fetchall())
        assert np.array_equal(np.array([rows[each] for each in ids], dtype=np.float32), matrix)
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        found = {each.entity_id for each in similar(connection, ids[3], k=20)}
    nearest = [ids[each] for each in np.argsort(_cosine_distances(matrix, matrix[3])) if each != 3][:20]
    assert len(found & set(nearest)) >= 18


def test_few_unchanged_or_unmatched_embeddings_leave_the_index_where_it_is(with_pgvector: Settings) -> None:
    ids, matrix = _ids(600), _matrix(600)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
    store_embeddings_in_bulk(with_pgvector, "rides", ids, [NOON] * 600, matrix)
    parts = _index_parts(with_pgvector)
    few = store_embeddings_in_bulk(with_pgvector, "rides", ids[:20], [NOON] * 20, -matrix[:20])
    matrix[:20] = -matrix[:20]
    again = store_embeddings_in_bulk(with_pgvector, "rides", ids, [NOON] * 600, matrix)
    later = store_embeddings_in_bulk(with_pgvector, "rides", ids, [NOON + timedelta(1)] * 600, matrix)
    none = store_embeddings_in_bulk(with_pgvector, "rides", [], [], matrix[:0])
    assert (few.written, again.matched, again.written, later.matched, none.written) == (20, 600, 0, 0, 0)
    assert _same_index(parts, _index_parts(with_pgvector))


def test_readers_go_on_while_the_index_on_embeddings_is_away(with_pgvector: Settings) -> None:
    ids, matrix = _ids(600), _matrix(600)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        store_embeddings(connection, "rides", ids[:50], [NOON] * 50, matrix[:50])
    stop, wrong, answers = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            try:
                with connect(with_pgvector) as connection:
                    answers.append(similar(connection, ids[0], k=5))
            except BaseException as error:
                wrong.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        store_embeddings_in_bulk(with_pgvector, "rides", ids, [NOON] * 600, matrix)
    finally:
        stop.set()
        reader.join()
    assert not wrong
    assert len(answers) > 5
    assert all(len(each) == 5 for each in answers)


@pytest.mark.parametrize("after", ["declared", "one part built", "one attached"])
def test_an_index_on_embeddings_left_unfinished_is_mended(with_pgvector: Settings, after: str) -> None:
    ids, matrix = _ids(60), _matrix(60)
    parts = _index_parts(with_pgvector)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        connection.execute("DROP INDEX platform.features_by_embedding")
        connection.execute(
            "CREATE INDEX features_by_embedding ON ONLY platform.features USING hnsw (embedding vector_cosine_ops)"
        )
        if after != "declared":
            connection.execute(
                "CREATE INDEX features_3_embedding_idx ON platform.features_3 USING hnsw (embedding vector_cosine_ops)"
            )
        if after == "one attached":
            connection.execute(
                "ALTER INDEX platform.features_by_embedding ATTACH PARTITION platform.features_3_embedding_idx"
            )
        store_embeddings(connection, "rides", ids, [NOON] * 60, matrix)
    assert bulk.mend_index(with_pgvector)
    assert not _same_index(parts, _index_parts(with_pgvector))


def test_a_server_with_too_little_shared_memory_builds_the_index_without_workers(
    with_pgvector: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tebibyte is more than any /dev/shm has; alone, a build takes only what it needs."""
    monkeypatch.setattr(deferred_index, "LEAST_MEMORY_KIBIBYTES", 1024**3)
    parts = _index_parts(with_pgvector)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, _ids(600))
        for number in range(8):
            connection.execute(f"ALTER TABLE platform.features_{number} SET (parallel_workers = 2)")
    with structlog.testing.capture_logs() as logs:
        report = store_embeddings_in_bulk(with_pgvector, "rides", _ids(600), [NOON] * 600, _matrix(600))
    assert report.written == 600
    assert not _same_index(parts, _index_parts(with_pgvector))
    assert sum(each["event"] == "index is made without parallel workers" for each in logs) == 8


def test_a_bad_matrix_leaves_the_index_on_embeddings_in_peace(with_pgvector: Settings) -> None:
    parts = _index_parts(with_pgvector)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, _ids(600))
    with pytest.raises(FeaturesInvalid, match="NaN or infinity"):
        store_embeddings_in_bulk(with_pgvector, "rides", _ids(600), [NOON] * 600, _matrix(600) * np.nan)
    assert _same_index(parts, _index_parts(with_pgvector))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda matrix: matrix[:, :700], r"shape \(3, 700\), not \(n, 768\)"),
        (lambda matrix: matrix[0], r"shape \(768,\), not"),
        (lambda matrix: matrix[:2], r"3 entity ids, 3 event times and 2 embeddings"),
        (lambda matrix: np.where(np.arange(3)[:, None] == 1, np.nan, matrix), r"{id1} .*NaN or infinity \(1 of 3"),
        (lambda matrix: matrix.astype(np.float64) * 1e300, r"{id0} .*NaN or infinity \(3 of 3"),
        (lambda matrix: matrix * [[1], [1], [0]], r"{id2} .*is all zero"),
    ],
)
def test_a_bad_matrix_is_refused_by_name_and_nothing_is_stored(
    with_pgvector: Settings, spoil: object, message: str
) -> None:
    ids = _ids(3)
    for number, each in enumerate(ids):
        message = message.replace(f"{{id{number}}}", str(each))
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        with pytest.raises(FeaturesInvalid, match=message):
            store_embeddings(connection, "rides", ids, [NOON] * 3, spoil(_matrix(3)))  # type: ignore[operator]
        assert connection.execute("SELECT count(embedding) FROM platform.features").fetchone() == (0,)


def test_naive_event_times_and_twins_are_refused_by_name(with_pgvector: Settings) -> None:
    ids = _ids(2)
    with connect(with_pgvector) as connection:
        with pytest.raises(FeaturesInvalid, match=f"{ids[1]} at 2024-02-01T12:00:00 .*without time zone"):
            store_embeddings(connection, "rides", ids, [NOON, NOON.replace(tzinfo=None)], _matrix(2))
        with pytest.raises(FeaturesInvalid, match=rf"{ids[0]} .* \(row 1\) is given twice"):
            store_embeddings(connection, "rides", [ids[0], ids[0]], [NOON, NOON], _matrix(2))


def test_no_embeddings_at_all_are_no_error(with_pgvector: Settings) -> None:
    with connect(with_pgvector) as connection:
        assert store_embeddings(connection, "rides", [], [], _matrix(0)).written == 0


def test_what_is_not_there_is_not_found_and_says_what_is_missing(with_pgvector: Settings) -> None:
    ids = _ids(2)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids[:1])
        with pytest.raises(EntityNotFound, match=f"entity {ids[0]} of rides has no embedding"):
            similar(connection, ids[0], k=3)
        with pytest.raises(EntityNotFound, match=f"no feature vector of entity {ids[1]}"):
            similar(connection, ids[1], k=3)
        with pytest.raises(ContractViolated, match="k = 0"):
            similar(connection, ids[0], k=0)


def test_without_pgvector_all_else_works_and_embeddings_say_what_to_install(without_pgvector: Settings) -> None:
    assert migrations.pending(without_pgvector) == []
    assert bulk.mend_index(without_pgvector)
    with connect(without_pgvector) as connection:
        _store_vectors(connection, _ids(1))
        for call in (
            lambda: similar(connection, _ids(1)[0], k=3),
            lambda: store_embeddings(connection, "rides", _ids(1), [NOON], _matrix(1)),
        ):
            with pytest.raises(ContractViolated, match=r"no pgvector.*install the package pgvector.*CREATE EXTENSION"):
                call()


def test_a_server_that_gets_pgvector_later_gets_column_and_index_at_the_next_start(
    database_server: Settings, without_pgvector: Settings
) -> None:
    _as_superuser(database_server, without_pgvector, "CREATE EXTENSION vector")
    with connect(without_pgvector) as connection:
        _store_vectors(connection, _ids(2))
        with pytest.raises(ContractViolated, match="no column for them yet.*start the platform again"):
            similar(connection, _ids(1)[0], k=3)
    assert migrations.apply(without_pgvector) == []
    assert migrations.apply(without_pgvector) == []
    with connect(without_pgvector) as connection:
        store_embeddings(connection, "rides", _ids(2), [NOON] * 2, _matrix(2))
        assert [each.entity_id for each in similar(connection, _ids(1)[0], k=3)] == [_ids(2)[1]]
        index = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'features_by_embedding'")
        assert "USING hnsw (embedding vector_cosine_ops)" in str(index.fetchone())


def test_an_extension_outside_the_search_path_serves_as_well(
    database_server: Settings, without_pgvector: Settings
) -> None:
    _as_superuser(
        database_server, without_pgvector, "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO public"
    )
    _as_superuser(database_server, without_pgvector, "CREATE EXTENSION vector SCHEMA extensions")
    migrations.apply(without_pgvector)
    with connect(without_pgvector) as connection:
        _store_vectors(connection, _ids(2))
        store_embeddings(connection, "rides", _ids(2), [NOON] * 2, _matrix(2))
        report = store_embeddings(connection, "rides", _ids(2), [NOON] * 2, _matrix(2))
        assert [each.entity_id for each in similar(connection, _ids(1)[0], k=3)] == [_ids(2)[1]]
    assert (report.matched, report.written) == (2, 0)
    parts = _index_parts(without_pgvector)
    with connect(without_pgvector) as connection:
        _store_vectors(connection, _ids(600)[2:])
    assert store_embeddings_in_bulk(without_pgvector, "rides", _ids(600), [NOON] * 600, _matrix(600)).written == 598
    assert not _same_index(parts, _index_parts(without_pgvector))


def test_the_command_prints_the_nearest(with_pgvector: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "present_settings", lambda: with_pgvector)
    ids = _ids(4)
    with connect(with_pgvector) as connection:
        _store_vectors(connection, ids)
        store_embeddings(connection, "rides", ids, [NOON] * 4, _matrix(4))
    done = CliRunner().invoke(entities.features, ["similar", str(ids[0]), "--k", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found) == 2
    assert set(found[0]) == {"entity_id", "region", "event_time", "distance"}
    table = CliRunner().invoke(entities.features, ["similar", str(ids[0]), "--k", "2"])
    assert found[0]["entity_id"] in table.output
