"""Writing vectors and labels: COPY into a staging table, then only what changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import structlog

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, KNOWN_AT, LABEL, REGION

QUERIES = Queries(Path(__file__).with_name("ingest.sql"))
ROWS_A_WRITE = 2_000
MAXIMUM_VECTOR_BYTES = 1 << 20
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


def ingest(connection: Connection, use_case: UseCase, vectors: pd.DataFrame) -> IngestReport:
    """Store vectors and labels, in the caller's transaction; the same ingest twice changes nothing.

    Args:
        connection: An open connection.
        use_case: Whose vectors.
        vectors: As `build_vectors` gives them.
    """
    clock = time.monotonic()
    connection.execute(QUERIES.stage)
    with connection.cursor().copy(QUERIES.copy_staged) as copy:
        for block in _copy_blocks(vectors, use_case.input_schema.names):
            copy.write(block)
    connection.execute(QUERIES.analyze_staged)
    parameters = {"use_case": use_case.name}
    inserted, updated = connection.execute(QUERIES.write_features, parameters).fetchone() or (0, 0)
    labels_inserted, labels_updated = connection.execute(QUERIES.write_labels, parameters).fetchone() or (
        0,
        0,
    )
    if inserted + updated > len(vectors) // 10:
        connection.execute(QUERIES.analyze_features)
        connection.execute(QUERIES.analyze_labels)
    report = IngestReport(
        use_case=use_case.name,
        vectors=len(vectors),
        inserted=inserted,
        updated=updated,
        labels=int(vectors[LABEL].notna().sum()),
        labels_inserted=labels_inserted,
        labels_updated=labels_updated,
        seconds=round(time.monotonic() - clock, 3),
    )
    log.info("features ingested", **report.model_dump())
    return report


def _copy_blocks(vectors: pd.DataFrame, names: list[str]) -> Iterator[str]:
    """The vectors as lines of COPY's text format, some thousand at a time, so that memory stays bounded."""
    for first in range(0, len(vectors), ROWS_A_WRITE):
        part = vectors.iloc[first : first + ROWS_A_WRITE]
        columns = [_json_values(part[name]) for name in names]
        keys = zip(
            part[ENTITY_ID],
            part[EVENT_TIME].map(pd.Timestamp.isoformat),
            part[REGION].map(_escape),
            part[LABEL],
            part[KNOWN_AT],
            zip(*columns, strict=True),
            strict=True,
        )
        lines = []
        for entity_id, event_time, region, label, known_at, values in keys:
            vector = _escape(orjson.dumps(dict(zip(names, values, strict=True))).decode())
            known, value = (r"\N", r"\N") if pd.isna(label) else (known_at.isoformat(), json.dumps(int(label)))
            lines.append(f"{entity_id}\t{event_time}\t{region}\t{vector}\t{known}\t{value}\n")
        yield "".join(lines)


def _json_values(column: pd.Series[Any]) -> list[Any]:
    """Python values as JSON has them; every kind of missing is None."""
    return list(column.astype(object).where(column.notna(), None))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
