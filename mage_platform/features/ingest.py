"""Writing vectors and labels: straight into their tables where all is new, else by staging only what changed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import LiteralString, NamedTuple

import numpy as np
import pandas as pd
import psycopg
import structlog

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.admission import admitted
from mage_platform.features.copy_lines import feature_lines, in_key_order, label_lines, staged_lines
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, LABEL

QUERIES = Queries(Path(__file__).with_name("ingest.sql"))
KEYS_ASKED_FOR = 500
"""How many keys, evenly spread, tell whether vectors are likely to be there already."""
ROWS_THAT_CHANGE_PLANS = 1_000
"""From so many written vectors on the planner's statistics are made anew."""
log = structlog.get_logger()


class IngestReport(Contract):
    """What one ingest wrote. Vectors neither inserted nor updated were there already, unchanged."""

    use_case: str
    vectors: int
    inserted: int
    updated: int
    labels: int
    labels_inserted: int
    labels_updated: int
    seconds: float


class _Written(NamedTuple):
    inserted: int
    updated: int
    labels_inserted: int
    labels_updated: int


def ingest(connection: Connection, use_case: UseCase, vectors: pd.DataFrame) -> IngestReport:
    """Store vectors and labels, in the caller's transaction; the same ingest twice changes nothing.

    Ingests of one use case take turns, those of different use cases run side by side.

    Args:
        connection: An open connection.
        use_case: Whose vectors.
        vectors: As `build_vectors` gives them.

    Raises:
        FeaturesInvalid: A vector breaks the contract; names the field and how many do. Nothing is written.
    """
    clock = time.monotonic()
    vectors = in_key_order(admitted(use_case, vectors))
    try:
        with connection.transaction():
            connection.execute(QUERIES.take_turn, {"use_case": use_case.name})
            written = None if _some_are_there(connection, vectors) else _copy_new(connection, use_case, vectors)
            written = written or _merge_changed(connection, use_case, vectors)
            if written.inserted + written.updated >= max(len(vectors) // 10, ROWS_THAT_CHANGE_PLANS):
                connection.execute(QUERIES.sample_less)
                connection.execute(QUERIES.analyze_features)
                connection.execute(QUERIES.analyze_labels)
    except (psycopg.errors.CardinalityViolation, psycopg.DataError, psycopg.IntegrityError) as error:
        raise _refusal(use_case, error) from error
    report = IngestReport(
        use_case=use_case.name,
        vectors=len(vectors),
        labels=int(vectors[LABEL].notna().sum()),
        seconds=round(time.monotonic() - clock, 3),
        **written._asdict(),
    )
    log.info("features ingested", **report.model_dump())
    return report


def _some_are_there(connection: Connection, vectors: pd.DataFrame) -> bool:
    sample = vectors.iloc[
        np.unique(np.linspace(0, max(len(vectors) - 1, 0), KEYS_ASKED_FOR, dtype=int))[: len(vectors)]
    ]
    keys = {
        "entity_ids": sample[ENTITY_ID].tolist(),
        "event_times": [each.to_pydatetime(warn=False) for each in sample[EVENT_TIME]],
    }
    row = connection.execute(QUERIES.some_are_there, keys).fetchone()
    return bool(row and row[0])


def _copy_new(connection: Connection, use_case: UseCase, vectors: pd.DataFrame) -> _Written | None:
    """Write all of them as new; None, and nothing written, when one was there after all."""
    try:
        with connection.transaction():
            lines = feature_lines(vectors, use_case.input_schema.names, use_case.name)
            inserted = _copy(connection, QUERIES.copy_features, lines)
            labels = _copy(connection, QUERIES.copy_labels, label_lines(vectors, use_case.name))
    except psycopg.errors.UniqueViolation:
        return None
    return _Written(inserted, 0, labels, 0)


def _merge_changed(connection: Connection, use_case: UseCase, vectors: pd.DataFrame) -> _Written:
    connection.execute(QUERIES.stage)
    _copy(connection, QUERIES.copy_staged, staged_lines(vectors, use_case.input_schema.names))
    connection.execute(QUERIES.analyze_staged)
    parameters = {"use_case": use_case.name}
    features = connection.execute(QUERIES.write_features, parameters).fetchone() or (0, 0)
    labels = connection.execute(QUERIES.write_labels, parameters).fetchone() or (0, 0)
    connection.execute(QUERIES.unstage)
    return _Written(*features, *labels)


def _copy(connection: Connection, query: LiteralString, blocks: Iterable[bytes]) -> int:
    with connection.cursor() as cursor:
        try:
            with cursor.copy(query) as copy:
                for block in blocks:
                    copy.write(block)
        except ValueError as error:
            # psycopg 3.3 unpacks one result where a server that dies in the middle leaves two
            if connection.pgconn.status != psycopg.pq.ConnStatus.OK or "to unpack" in str(error):
                raise psycopg.OperationalError("the connection was lost in the middle of a COPY") from error
            raise
        return cursor.rowcount


def _refusal(use_case: UseCase, error: psycopg.Error) -> FeaturesInvalid:
    if isinstance(error, psycopg.errors.CardinalityViolation):
        return FeaturesInvalid(
            f"use case {use_case.name}: two of the vectors have the same entity and event time; nothing was written. "
            "Mend entity.key, or refuse repeated rows by expect_compound_columns_to_be_unique",
            field="entity.key",
        )
    said = str(error).strip().splitlines()[0]
    return FeaturesInvalid(f"use case {use_case.name}: PostgreSQL refused a vector, nothing was written: {said}")
