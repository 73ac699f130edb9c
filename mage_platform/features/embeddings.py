"""Embeddings of entities, beside their vectors: storing them, and finding the entities most alike.

They need pgvector in PostgreSQL; the rest of the feature store does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from psycopg import sql
from pydantic import AwareDatetime, Field

from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, EntityNotFound, FeaturesInvalid

QUERIES = Queries(Path(__file__).with_name("embeddings.sql"))
DIMENSIONS = 768
MOST_NEIGHBOURS = 1_000
"""As many candidates as pgvector visits at most in one scan of its index."""
ROWS_A_WRITE = 2_000
MANY = 500
"""Fewer go through the index one by one in about the time in which it is taken away and declared anew."""
APPENDING_COSTS = 5
"""To put one embedding into the index costs at least as much as to build it over so many."""
log = structlog.get_logger()

# One line of COPY's binary format: three fields, each with its length; a vector has its dimension and two spare bytes
# before its numbers. Source: PostgreSQL manual, COPY, "Binary Format"; pgvector, vector_recv.
_LINE = np.dtype(
    [
        ("fields", ">i2"),
        ("entity_id_bytes", ">i4"),
        ("entity_id", "V16"),
        ("event_time_bytes", ">i4"),
        ("event_time", ">i8"),
        ("embedding_bytes", ">i4"),
        ("dimensions", ">i2"),
        ("spare", ">i2"),
        ("embedding", ">f4", (DIMENSIONS,)),
    ]
)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class EmbeddingReport(Contract):
    """What storing embeddings did. Given but not matched: no vector of that entity and event time is stored."""

    use_case: str
    given: int
    matched: int
    written: int
    """Matched and different from what was there."""
    seconds: float


class SimilarEntity(Contract):
    """An entity near another one."""

    entity_id: UUID
    region: str
    event_time: AwareDatetime
    """Of its newest embedding, the one that was compared."""
    distance: Annotated[float, Field(ge=-1e-6, le=2 + 1e-6)]
    """Cosine distance: 0 in the same direction, 1 unrelated, 2 opposite."""


@dataclass(frozen=True)
class _Extension:
    """The pgvector of this database."""

    schema: str
    searches_on: bool


def store_embeddings(
    connection: Connection,
    use_case: str,
    ids: Sequence[UUID],
    event_times: Sequence[datetime],
    matrix: NDArray[np.float32],
) -> EmbeddingReport:
    """Put embeddings beside stored vectors, in the caller's transaction; vectors themselves stay as they are.

    Each is put into the index by itself, which takes milliseconds: `bulk.store_embeddings_in_bulk` is for many.

    Args:
        connection: An open connection.
        use_case: Whose vectors.
        ids: Entity ids, (n,).
        event_times: Event times of the vectors, (n,), with time zone.
        matrix: The embeddings, (n, 768), finite and none of them all zero.

    Raises:
        FeaturesInvalid: The embeddings are not as above, or two have the same entity and event time.
        ContractViolated: PostgreSQL has no pgvector.
    """
    clock = time.monotonic()
    with _staged(connection, ids, event_times, matrix) as extension:
        return _write(connection, use_case, len(ids), extension, clock)


def store_few_embeddings(
    connection: Connection,
    use_case: str,
    ids: Sequence[UUID],
    event_times: Sequence[datetime],
    matrix: NDArray[Any],
) -> EmbeddingReport | None:
    """Store embeddings as `store_embeddings` does, unless the index had better be built anew for them.

    Returns:
        What was done; None where nothing was, because at least 500 change, and a quarter as many as are stored.

    Raises:
        FeaturesInvalid, ContractViolated: As `store_embeddings`.
    """
    clock = time.monotonic()
    with _staged(connection, ids, event_times, matrix) as extension:
        if len(ids) >= MANY:
            count = sql.SQL(QUERIES.count_changes).format(extension=extension, use_case=sql.Literal(use_case))
            changes, stored = connection.execute(count).fetchone() or (0, 0)
            if changes >= MANY and changes * APPENDING_COSTS >= stored + changes:
                return None
        return _write(connection, use_case, len(ids), extension, clock)


def similar(connection: Connection, entity_id: UUID, k: int = 10) -> list[SimilarEntity]:
    """The other entities of the same use case nearest to this one by the newest embedding of each, nearest first.

    Found through the HNSW index where PostgreSQL prefers it, so on many embeddings nearly, not always exactly, the
    nearest.

    Args:
        connection: An open connection.
        entity_id: The entity.
        k: How many, 1 to 1,000.

    Raises:
        EntityNotFound: The entity has no vector, or none with an embedding.
        ContractViolated: PostgreSQL has no pgvector, or `k` is out of range.
    """
    if not 1 <= k <= MOST_NEIGHBOURS:
        raise ContractViolated(f"k = {k} is not between 1 and {MOST_NEIGHBOURS:,}", field="k")
    extension = _extension(connection)
    use_case, embedding = _newest_embedding(connection, entity_id)
    schema = sql.Identifier(extension.schema)
    parts = {
        "extension": schema,
        "probe": sql.SQL("{}::{}.vector").format(sql.Literal(embedding), schema),
        "use_case": sql.Literal(use_case),
        "entity_id": sql.Literal(entity_id),
        "k": sql.Literal(k),
    }
    search = {"candidates": max(100, min(2 * k, MOST_NEIGHBOURS)), "iterative": extension.searches_on}
    with connection.transaction():
        connection.execute(QUERIES.search_on, search)
        rows = connection.execute(sql.SQL(QUERIES.neighbours).format(**parts)).fetchall()
        if len(rows) < k:
            rows = connection.execute(sql.SQL(QUERIES.neighbours_of_all).format(**parts)).fetchall()
    found = [SimilarEntity(entity_id=each[0], region=each[1], event_time=each[2], distance=each[3]) for each in rows]
    return sorted(found, key=lambda each: (each.distance, each.entity_id))


def _write(
    connection: Connection, use_case: str, given: int, extension: sql.Identifier, clock: float
) -> EmbeddingReport:
    write = sql.SQL(QUERIES.write_embeddings).format(extension=extension, use_case=sql.Literal(use_case))
    matched, written = connection.execute(write).fetchone() or (0, 0)
    seconds = round(time.monotonic() - clock, 3)
    report = EmbeddingReport(use_case=use_case, given=given, matched=matched, written=written, seconds=seconds)
    log.info("embeddings stored", **report.model_dump())
    return report


@contextmanager
def _staged(
    connection: Connection, ids: Sequence[UUID], event_times: Sequence[datetime], matrix: NDArray[Any]
) -> Iterator[sql.Identifier]:
    """The embeddings, once they are as they must be, in a table of the transaction; gives the schema of pgvector."""
    extension = sql.Identifier(_extension(connection).schema)
    matrix = _checked(ids, event_times, matrix)
    connection.execute(sql.SQL(QUERIES.stage).format(extension=extension, dimensions=sql.Literal(DIMENSIONS)))
    with connection.cursor().copy(QUERIES.copy_staged) as copy:
        for block in copy_blocks(ids, event_times, matrix):
            copy.write(block)
    connection.execute(QUERIES.analyze_staged)
    yield extension
    connection.execute(QUERIES.drop_staged)


def _newest_embedding(connection: Connection, entity_id: UUID) -> tuple[str, str]:
    """Use case and newest embedding, as pgvector writes it, of an entity."""
    row = connection.execute(QUERIES.newest_embedding, {"entity_id": entity_id}).fetchone()
    if row is None:
        raise EntityNotFound(f"no feature vector of entity {entity_id} is stored", field="entity_id")
    use_case, event_time, embedding = row
    if embedding is None:
        raise EntityNotFound(
            f"entity {entity_id} of {use_case} has no embedding (its newest vector is of {event_time.isoformat()}): "
            "store one with mage_platform.features.embeddings.store_embeddings",
            field="entity_id",
        )
    return use_case, embedding


def _extension(connection: Connection) -> _Extension:
    row = connection.execute(QUERIES.extension).fetchone()
    if row is None or not row[2]:
        cause = "PostgreSQL has no pgvector" if row is None else "the feature store has no column for them yet"
        cure = "install the package pgvector (Debian: postgresql-<major>-pgvector), as a superuser run CREATE EXTENSION"
        first = f"{cure} vector in this database, then start" if row is None else "start"
        raise ContractViolated(
            f"embeddings cannot be used: {cause}. To get them, {first} the platform again", field="embedding"
        )
    return _Extension(schema=row[0], searches_on=row[1])


def _checked(ids: Sequence[UUID], event_times: Sequence[datetime], matrix: NDArray[Any]) -> NDArray[np.float32]:
    """The matrix as float32, once everything about it and its keys is as it must be."""
    if matrix.ndim != 2 or matrix.shape[1] != DIMENSIONS:
        raise FeaturesInvalid(
            f"embeddings have the shape {matrix.shape}, not (n, {DIMENSIONS}): use a model with {DIMENSIONS} "
            "dimensions, or project what it gives",
            field="embedding",
        )
    if not len(ids) == len(event_times) == len(matrix):
        raise FeaturesInvalid(
            f"{len(ids):,} entity ids, {len(event_times):,} event times and {len(matrix):,} embeddings: give one of "
            "each for each vector",
            field="embedding",
        )
    with np.errstate(over="ignore"):
        numbers = np.asarray(matrix, dtype=np.float32)
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        _refuse(ids, event_times, ~finite, "holds NaN or infinity")
    if (zero := ~numbers.any(axis=1)).any():
        _refuse(ids, event_times, zero, "is all zero, so that it has no direction")
    if (naive := np.array([moment.tzinfo is None for moment in event_times], dtype=bool)).any():
        _refuse(ids, event_times, naive, "has an event time without time zone")
    if (twins := pd.Series(list(zip(ids, event_times, strict=True)), dtype=object).duplicated().to_numpy()).any():
        _refuse(ids, event_times, twins, "is given twice")
    return numbers


def _refuse(ids: Sequence[UUID], event_times: Sequence[datetime], wrong: NDArray[np.bool_], rule: str) -> NoReturn:
    first = int(wrong.argmax())
    raise FeaturesInvalid(
        f"the embedding of entity {ids[first]} at {event_times[first].isoformat()} (row {first}) {rule} "
        f"({int(wrong.sum()):,} of {len(ids):,} embeddings). Nothing was stored: mend what makes them",
        field="embedding",
    )


def copy_blocks(ids: Sequence[UUID], event_times: Sequence[datetime], matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """The embeddings in COPY's binary format, some thousand at a time, without a detour through text."""
    yield _COPY_HEADER
    microsecond = timedelta(microseconds=1)
    for first in range(0, len(ids), ROWS_A_WRITE):
        part = slice(first, first + ROWS_A_WRITE)
        lines = np.zeros(len(matrix[part]), dtype=_LINE)
        lines["fields"] = 3
        lines["entity_id_bytes"] = 16
        lines["entity_id"] = np.frombuffer(b"".join(each.bytes for each in ids[part]), dtype="V16")
        lines["event_time_bytes"] = 8
        lines["event_time"] = [(moment - _POSTGRES_EPOCH) // microsecond for moment in event_times[part]]
        lines["embedding_bytes"] = 4 + 4 * DIMENSIONS
        lines["dimensions"] = DIMENSIONS
        lines["embedding"] = matrix[part]
        yield lines.tobytes()
    yield _COPY_END
