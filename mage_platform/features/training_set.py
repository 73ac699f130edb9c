"""Labelled vectors of one region as typed columns, point in time correct."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from mage_platform.contracts import POOLED, FeatureColumn, InputSchema, TrainingWindow, UseCase
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features import typed_columns
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, KNOWN_AT, LABEL, REGION
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("training_set.sql"))
PARTS = ("train", "validate", "blend", "test")
BATCH_BYTES = 4 << 20
_MOMENT = pa.timestamp("us", tz="UTC")
_TEXT_LABEL, _NUMBER_LABEL = sql.SQL("l.label #>> '{}'"), sql.SQL("l.label::float8")
_REGION_AS = sql.SQL("l.region AS {alias}")
_BATCH_BYTES_OPTION = "adbc.postgresql.batch_size_hint_bytes"


def labelled_rows_by_region(connection: Connection, use_case: str, window: TrainingWindow) -> dict[str, int]:
    """Labels of each region in the whole window that were known at its end."""
    parameters = {"use_case": use_case, "from": window.train_from, "until": window.test_until}
    return dict(connection.execute(QUERIES.labelled_rows_by_region, parameters).fetchall())


def training_set(
    settings: Settings, use_case: UseCase, region: str, schema: InputSchema, window: TrainingWindow
) -> dict[str, pa.Table]:
    """Read the labelled vectors of one region, or of all together, split by the window.

    A row belongs to the part whose half-open span of time holds its event time, and is left out when its label was
    not yet known at that span's end. Memory is that of the four tables and of one batch.

    Returns:
        The tables `train`, `validate`, `blend` and `test`, ordered by event time and entity; columns `_entity_id`
        (16 bytes), `_event_time`, `_region`, `_label` (text: "0" or "1", or a class; float64 of a regression) and the
        features: numbers as float64 with null for missing, categories and booleans as text.

    Raises:
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    label = pa.float64() if use_case.target.kind == "regression" else pa.string()
    keys = [(ENTITY_ID, pa.binary()), (EVENT_TIME, _MOMENT), (REGION, pa.string()), (LABEL, label)]
    empty = pa.schema([*keys, *((name, _arrow_type(each)) for name, each in schema.columns.items())])
    parts: dict[str, list[pa.RecordBatch]] = {name: [] for name in PARTS}
    for name, batch in training_batches(settings, use_case, region, schema, window):
        parts[name].append(batch)
    return {name: pa.Table.from_batches(batches, empty) for name, batches in parts.items()}


def training_batches(
    settings: Settings, use_case: UseCase, region: str, schema: InputSchema, window: TrainingWindow
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
        raise DatabaseUnavailable(f"reading the training rows of {use_case.name}/{region} failed: {error}") from error


def split(table: pa.Table, window: TrainingWindow) -> dict[str, pa.Table]:
    """Cut a table with `_event_time` and `_known_at` into the four parts of the window."""
    moments = [window.train_until, window.validate_until, window.blend_until, window.test_until]
    parts, start = {}, None
    for name, end in zip(PARTS, moments, strict=True):
        inside = pc.and_(pc.less(table[EVENT_TIME], _scalar(end)), pc.less_equal(table[KNOWN_AT], _scalar(end)))
        if start is not None:
            inside = pc.and_(inside, pc.greater_equal(table[EVENT_TIME], _scalar(start)))
        parts[name] = table.filter(inside).drop_columns([KNOWN_AT])
        start = end
    return parts


def _scalar(moment: object) -> pa.Scalar[pa.TimestampType]:
    return pa.scalar(moment, _MOMENT)


def _query(use_case: UseCase, region: str, schema: InputSchema, window: TrainingWindow) -> str:
    first = sql.Literal(window.train_from) if window.train_from else sql.SQL("'-infinity'::timestamptz")
    added = [name for name in schema.names if name not in use_case.features.columns]
    stored = InputSchema(columns={name: each for name, each in schema.columns.items() if name not in added})
    columns = [typed_columns.values(stored), *(_REGION_AS.format(alias=sql.Identifier(name)) for name in added)]
    composed = sql.SQL(QUERIES.training_set).format(
        **{
            "columns": sql.SQL(", ").join(columns),
            "label": _NUMBER_LABEL if use_case.target.kind == "regression" else _TEXT_LABEL,
            "use_case": sql.Literal(use_case.name),
            "region": sql.Literal(None if region == POOLED else region),
            "until": sql.Literal(window.test_until),
            "from": first,
        }
    )
    return composed.as_string(None)


def _arrow_type(column: FeatureColumn) -> pa.DataType:
    return pa.float64() if typed_columns.is_number(column) else pa.string()


__all__ = ["LABEL", "PARTS", "labelled_rows_by_region", "split", "training_batches", "training_set"]
