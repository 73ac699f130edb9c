"""Labelled vectors of one region as typed columns, point in time correct."""

from __future__ import annotations

from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from mage_platform.contracts import FeatureColumn, InputSchema, TrainingWindow
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features.vectors import EVENT_TIME, KNOWN_AT, LABEL
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("training_set.sql"))
PARTS = ("train", "validate", "blend", "test")

# `->>` and a cast is the cheapest way out of JSONB; text stays text, true and false become levels.
_PROJECTIONS = {
    "integer": sql.SQL("(v.feature_vector ->> {name})::float8 AS {column}"),
    "number": sql.SQL("(v.feature_vector ->> {name})::float8 AS {column}"),
    "category": sql.SQL("v.feature_vector ->> {name} AS {column}"),
    "boolean": sql.SQL("v.feature_vector ->> {name} AS {column}"),
}


def labelled_rows_by_region(connection: Connection, use_case: str, window: TrainingWindow) -> dict[str, int]:
    """Labels of each region in the whole window that were known at its end."""
    parameters = {"use_case": use_case, "from": window.train_from, "until": window.test_until}
    return dict(connection.execute(QUERIES.labelled_rows_by_region, parameters).fetchall())


def training_set(
    settings: Settings, use_case: str, region: str, schema: InputSchema, window: TrainingWindow
) -> dict[str, pa.Table]:
    """Read the labelled vectors of one region, split by the window.

    A row belongs to the part whose half-open span of time holds its event time, and is left out when its label was
    not yet known at that span's end.

    Returns:
        The tables `train`, `validate`, `blend` and `test`, ordered by event time; columns `_label` (text "0" or
        "1") and the features: numbers as float64 with null for missing, categories and booleans as text.

    Raises:
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    query = _query(use_case, region, schema, window)
    try:
        with adbc.connect(settings.database_url()) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            table = cursor.fetch_arrow_table()
    except adbc.OperationalError as error:
        raise DatabaseUnavailable(f"reading the training rows of {use_case}/{region} failed: {error}") from error
    return split(table, window)


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
            "columns": sql.SQL(", ").join(_projection(name, column) for name, column in schema.columns.items()),
            "use_case": sql.Literal(use_case),
            "region": sql.Literal(region),
            "until": sql.Literal(window.test_until),
            "from": first,
        }
    )
    return composed.as_string(None)


def _projection(name: str, column: FeatureColumn) -> sql.Composed:
    return _PROJECTIONS[column.type].format(name=sql.Literal(name), column=sql.Identifier(name))


__all__ = ["LABEL", "PARTS", "labelled_rows_by_region", "split", "training_set"]
