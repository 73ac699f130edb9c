"""Labelled vectors of one region as typed columns, point in time correct: as tables, as batches, or as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from mage_platform.contracts import POOLED, InputSchema, TrainingWindow, UseCase
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable, FeaturesInvalid
from mage_platform.features.training_read import Batch, Span, read_span, row_schema
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, REGION
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("training_set.sql"))
PARTS = ("train", "validate", "blend", "test")
KEYS = (ENTITY_ID, EVENT_TIME, REGION)
ROWS_A_ROW_GROUP = 100_000


def labelled_rows_by_region(connection: Connection, use_case: str, window: TrainingWindow) -> dict[str, int]:
    """Labels of each region in the whole window that were known at its end."""
    parameters = {"use_case": use_case, "from": window.train_from, "until": window.test_until}
    return dict(connection.execute(QUERIES.labelled_rows_by_region, parameters).fetchall())


def training_set(
    settings: Settings, use_case: UseCase, region: str, schema: InputSchema, window: TrainingWindow
) -> dict[str, pa.Table]:
    """Read the labelled vectors of one region, or of all together (`*`), split by the window.

    A row belongs to the part whose half-open span of time holds its event time, and is left out when its label was
    not yet known at that span's end. Memory is that of the four tables.

    Returns:
        The tables `train`, `validate`, `blend` and `test`, ordered by event time and entity; columns `_entity_id`
        (16 bytes), `_event_time`, `_region`, `_label` (text: "0" or "1", or a class; float64 of a regression) and the
        features: numbers as float64 with null for missing, categories and booleans as text.

    Raises:
        FeaturesInvalid: Stored vectors do not fit the schema.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    parts: dict[str, list[pa.RecordBatch]] = {name: [] for name in PARTS}
    for name, rows in training_batches(settings, use_case, region, schema, window):
        parts[name].append(rows)
    return {
        name: pa.Table.from_batches(batches, row_schema(schema, use_case.target.kind))
        for name, batches in parts.items()
    }


def training_batches(
    settings: Settings,
    use_case: UseCase,
    region: str,
    schema: InputSchema,
    window: TrainingWindow,
    *,
    parts: tuple[str, ...] = PARTS,
    train_share: float = 1.0,
    workers: int | None = None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of `training_set` as they arrive, in batches of about 20,000: for more than memory holds.

    Args:
        parts: Only these, neighbours in the order of `PARTS`.
        train_share: Of the training part only this share of the entities, the same ones each time.
        workers: Connections side by side; None takes one for each processor. Few labels take fewer.

    Yields:
        The name of a part and rows of it, ordered by event time and entity within and across batches.

    Raises:
        FeaturesInvalid: Stored vectors do not fit the schema.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    span = _span(use_case, region, schema, window, parts, train_share)
    try:
        for batch in read_span(settings, span, schema, workers=workers):
            yield from _split(batch, window)
    except psycopg.DataError as error:
        raise _misfit(use_case, error) from error
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"reading the training rows of {use_case.name}/{region} failed: {error}") from error


def training_files(
    settings: Settings,
    use_case: UseCase,
    region: str,
    schema: InputSchema,
    window: TrainingWindow,
    folder: Path,
    *,
    train_share: float = 1.0,
    witness: Callable[[str, pa.Table], None] | None = None,
) -> dict[str, Path]:
    """The tables of `training_set` as parquet files, written as rows arrive: memory is that of some batches.

    All but the last one go to H2O as they are, so they hold label and features alone; that of `test` has the keys too.

    Args:
        folder: Where the files go, one a part; it exists.
        train_share: Of the training part only this share of the entities, the same ones each time.
        witness: Called with the name of a part and the rows about to be written, in their order: whoever wants to
            know what the files hold need not read them again.

    Returns:
        The file of each part; a part without rows has a file without rows.

    Raises:
        FeaturesInvalid: Stored vectors do not fit the schema.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    whole = row_schema(schema, use_case.target.kind)
    bare = pa.schema([field for field in whole if field.name not in KEYS])
    files = {name: folder / f"{name}.parquet" for name in PARTS}
    rows = {name: whole if name == "test" else bare for name in PARTS}
    with ExitStack() as leaving:
        writers = {name: leaving.enter_context(pq.ParquetWriter(file, rows[name])) for name, file in files.items()}
        waiting: dict[str, list[pa.RecordBatch]] = {name: [] for name in PARTS}

        def write(name: str) -> None:
            table = pa.Table.from_batches(waiting[name], whole).select(rows[name].names)
            waiting[name] = []
            if witness is not None:
                witness(name, table)
            writers[name].write_table(table)

        for name, batch in training_batches(settings, use_case, region, schema, window, train_share=train_share):
            waiting[name].append(batch)
            if sum(map(len, waiting[name])) >= ROWS_A_ROW_GROUP:
                write(name)
        for name in PARTS:
            write(name)
    return files


def _split(batch: Batch, window: TrainingWindow) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each part that has any: neighbours, because rows are in order."""
    ends = [int(end.timestamp()) * 1_000_000 + end.microsecond for end in _ends(window)]
    cuts = [0, *np.searchsorted(batch.moments, ends).tolist()]
    for name, (start, end) in zip(PARTS, pairwise(cuts), strict=True):
        if end > start:
            yield name, batch.rows.slice(start, end - start)


def _span(
    use_case: UseCase, region: str, schema: InputSchema, window: TrainingWindow, parts: tuple[str, ...], share: float
) -> Span:
    moments = [window.train_from, *_ends(window)]
    start, until = moments[PARTS.index(parts[0])], moments[PARTS.index(parts[-1]) + 1]
    assert until is not None
    return Span(
        use_case=use_case.name,
        region=None if region == POOLED else region,
        region_feature=next((name for name in schema.names if name not in use_case.features.columns), None),
        kind=use_case.target.kind,
        start=start,
        until=until,
        train_until=window.train_until,
        train_share=share,
        ends=_ends(window),
    )


def _ends(window: TrainingWindow) -> list[datetime]:
    return [window.train_until, window.validate_until, window.blend_until, window.test_until]


def _misfit(use_case: UseCase, error: psycopg.DataError) -> FeaturesInvalid:
    return FeaturesInvalid(
        f"stored vectors of {use_case.name} do not fit the schema: {error}. Ingest them again, or declare the feature "
        "as it is stored",
        field="features",
    )
