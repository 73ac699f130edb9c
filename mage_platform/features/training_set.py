"""Labelled vectors of one region as typed columns, point in time correct."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from mage_platform.contracts import FeatureColumn, InputSchema, TrainingWindow
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features import typed_columns
from mage_platform.features.vectors import EVENT_TIME, KNOWN_AT, LABEL
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("training_set.sql"))
PARTS = ("train", "validate", "blend", "test")
BATCH_BYTES = 4 << 20
_BATCH_BYTES_OPTION = "adbc.postgresql.batch_size_hint_bytes"


def labelled_rows_by_region(connection: Connection, use_case: str, window: TrainingWindow) -> dict[str, int]:
    """Labels of each region in the whole window that were known at its end."""
    parameters = {"use_case": use_case, "from": window.train_from, "until": window.test_until}
    return dict(connection.execute(QUERIES.labelled_rows_by_region, parameters).fetchall())


def training_set(
    settings: Settings, use_case: str, region: str, schema: InputSchema, window: TrainingWindow
) -> dict[str, pa.Table]:
    """Read the labelled vectors of one region, split by the window.

    A row belongs to the part whose half-open span of time holds its event time, and is left out when its label was
    not yet known at that span's end. Memory is that of the four tables and of one batch.

    Returns:
        The tables `train`, `validate`, `blend` and `test`, ordered by event time; columns `_label` (text "0" or
        "1") and the features: numbers as float64 with null for missing, categories and booleans as text.

    Raises:
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    empty = pa.schema([(LABEL, pa.string()), *((name, _arrow_type(each)) for name, each in schema.columns.items())])
    parts: dict[str, list[pa.RecordBatch]] = {name: [] for name in PARTS}
    for name, batch in training_batches(settings, use_case, region, schema, window):
        parts[name].append(batch)
    return {name: pa.Table.from_batches(batches, empty) for name, batches in parts.items()}


def training_batches(
    settings: Settings, use_case: str, region: str, schema: InputSchema, window: TrainingWindow
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of `training_set` as they arrive, in batches of some ten thousand: for more than memory holds.

    Yields:
        The name of a part and rows of it, ordered by event time within and across batches.

    Raises:
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    try:
        with adbc.connect(settings.database_url()) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{_BATCH_BYTES_OPTION: str(BATCH_BYTES)})
            cursor.execute(_query(use_case, region, schema, window))
            for batch in cursor.fetch_record_batch():
                for name, part in split(pa.Table.from_batches([batch]), window).items():
                    for rows in part.combine_chunks().to_batches():
                        yield name, rows
    except adbc.OperationalError as error:
        raise DatabaseUnavailable(f"reading the training rows of {use_case}/{region} failed: {error}") from error


def split(table: pa.Table, window: TrainingWindow) -> dict[str, pa.Table]:
    """Cut a table with `_event_time` and `_known_at` into the four parts of the window."""
    moments = [window.train_until, window.validate_until, window.blend_until, window.test_until]
    parts, start = {}, None
    for name, end in zip(PARTS, moments, strict=True):
        inside = pc.and_(pc.less(table[EVENT_TIME], _scalar(end)), pc.less_equal(table[KNOWN_AT], _scalar(end)))
        if start is not None:
            inside = pc.and_(inside, pc.greater_equal(table[EVENT_TIME], _scalar(start)))
        parts[name] = table.filter(inside).drop_columns([EVENT_TIME, KNOWN_AT])
        start = end
    return parts


def _scalar(moment: object) -> pa.Scalar[pa.TimestampType]:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))


def _query(use_case: str, region: str, schema: InputSchema, window: TrainingWindow) -> str:
    first = sql.Literal(window.train_from) if window.train_from else sql.SQL("'-infinity'::timestamptz")
    composed = sql.SQL(QUERIES.training_set).format(
        **{
            "columns": typed_columns.values(schema),
            "use_case": sql.Literal(use_case),
            "region": sql.Literal(region),
            "until": sql.Literal(window.test_until),
            "from": first,
        }
    )
    return composed.as_string(None)


def _arrow_type(column: FeatureColumn) -> pa.DataType:
    return pa.float64() if typed_columns.is_number(column) else pa.string()


__all__ = ["LABEL", "PARTS", "labelled_rows_by_region", "split", "training_batches", "training_set"]
