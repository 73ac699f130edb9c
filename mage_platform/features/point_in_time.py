"""Point-in-time join: to each label the feature vector that held, and was known, at the label's moment.

The written rules (ties, duplicates, late rows, gaps, time zones, ages) are in `docs/feature_store.md`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql

from mage_platform.contracts import InputSchema
from mage_platform.database import Queries, connect
from mage_platform.database.connections import Connection
from mage_platform.errors import FeaturesInvalid
from mage_platform.features import typed_columns
from mage_platform.features.label_keys import MOMENT, LabelKeys, as_table, label_keys
from mage_platform.features.one_state import share_one_state
from mage_platform.features.typed_columns import Numbers, array_values, is_number, text_values
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("point_in_time.sql"))
VECTOR_EVENT_TIME = "_vector_event_time"
LABELS_A_QUERY = 50_000
"""So many labels are answered at once, so that an array stays far below PostgreSQL's gigabyte."""
LABELS_A_WORKER = 5_000
"""Fewer are not worth a connection of their own."""
# more than this before a label of the year 1 is before PostgreSQL's first moment, 4714 BC
_LONGEST_AGE = timedelta(days=4_700 * 365)
# PostgreSQL counts microseconds since 2000 and keeps the least number for -infinity
_SINCE_2000, _NEVER = 946_684_800_000_000, np.iinfo(np.int64).min


def point_in_time_join(
    settings: Settings,
    use_case: str,
    labels: pa.Table | pd.DataFrame,
    schema: InputSchema,
    *,
    maximum_age: timedelta | None = None,
    as_known_then: bool = False,
    workers: int | None = None,
) -> pa.Table:
    """To each label the newest vector of its entity whose event time is not after the label's.

    All workers read one state of the store: an ingest that ends meanwhile is seen as a whole or not at all.

    Args:
        settings: Where PostgreSQL is.
        use_case: Only vectors of this use case count.
        labels: Columns `entity_id` (UUID: canonical text, 16 bytes, or UUID objects in a data frame) and
            `event_time` (with time zone), and any further ones.
        schema: The features wanted.
        maximum_age: A vector counts while it is at most this old at the label's event time; None sets no limit.
        as_known_then: Only vectors that were stored at the label's event time count, in the revision valid then.
        workers: Connections side by side; None takes one for each processor. Few labels take fewer.

    Returns:
        The labels, as many and in the same order, with `_vector_event_time` (UTC) and the features (numbers as
        float64, categories and booleans as text); all of these null where no vector counts.

    Raises:
        FeaturesInvalid: A key is missing or wrong, or a column of the labels has the name of a feature; nothing was
            sent. Or stored vectors do not fit the schema.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    if maximum_age is not None and maximum_age < timedelta(0):
        raise FeaturesInvalid(f"the maximum age {maximum_age} is negative", field="maximum_age")
    table = as_table(labels)
    _refuse_clashes(table, schema)
    keys = label_keys(table)
    answer = _Answer(schema, len(keys))
    query = _query(use_case, schema, maximum_age, as_known_then)
    count = _workers(settings, len(keys), workers)
    parts = keys.parts(max(count, -(-len(keys) // LABELS_A_QUERY)))
    try:
        with ExitStack() as open_ones, ThreadPoolExecutor(count, "point-in-time") as pool:
            connections = [open_ones.enter_context(connect(settings)) for _ in range(count)] if len(keys) else []
            share_one_state(connections)
            asked = [
                pool.submit(_ask, connection, parts[place::count], query, answer)
                for place, connection in enumerate(connections)
            ]
            for each in asked:
                each.result()
    except psycopg.DataError as error:
        raise FeaturesInvalid(
            f"stored vectors of {use_case} do not fit the schema: {error}", field="features"
        ) from error
    return answer.beside(table)


class _Answer:
    """The vectors found, each written to the place of its label as it arrives."""

    def __init__(self, schema: InputSchema, labels: int) -> None:
        self._schema = schema
        self._moments = np.full(labels, _NEVER, np.int64)
        self._numbers = {name: np.full(labels, np.nan) for name, column in schema.columns.items() if is_number(column)}
        self._texts: list[tuple[Numbers, list[pa.StringArray]]] = []

    def take(self, result: list[bytes | None]) -> None:
        """Take the columns of one query; each worker writes to places of its own."""
        fields = iter(result)
        rows = array_values(next(fields) or b"", ">i4")
        self._moments[rows] = array_values(next(fields) or b"", ">i8")
        texts = []
        for name, column in self._schema.columns.items():
            if is_number(column):
                self._numbers[name][rows] = array_values(next(fields) or b"", ">f8")
            else:
                texts.append(text_values(next(fields) or b"", next(fields)))
        self._texts.append((rows, texts))

    def beside(self, table: pa.Table) -> pa.Table:
        """The labels with what was found."""
        never = self._moments == _NEVER
        moments = pa.array(np.where(never, 0, self._moments + _SINCE_2000), pa.int64(), mask=never).cast(MOMENT)
        table = table.append_column(VECTOR_EVENT_TIME, moments)
        places = np.empty(len(self._moments), np.int64)
        if self._texts:
            places[np.concatenate([rows for rows, _ in self._texts])] = np.arange(len(places))
        order, text = pa.array(places), 0
        for name, column in self._schema.columns.items():
            if is_number(column):
                table = table.append_column(name, pa.array(self._numbers[name], from_pandas=True))
            else:
                chunks = [texts[text] for _, texts in self._texts]
                table = table.append_column(name, pa.chunked_array(chunks, pa.string()).take(order))
                text += 1
        return table


def _refuse_clashes(table: pa.Table, schema: InputSchema) -> None:
    for name in (*schema.names, VECTOR_EVENT_TIME):
        if name in table.column_names:
            raise FeaturesInvalid(
                f"the labels have a column {name!r}, which is also what the join adds: rename it",
                field=f"labels.{name}",
            )


def _query(use_case: str, schema: InputSchema, maximum_age: timedelta | None, as_known_then: bool) -> sql.Composed:
    oldest: sql.Composable = sql.SQL("'-infinity'::timestamptz")
    if maximum_age is not None and maximum_age < _LONGEST_AGE:
        # microseconds, not days: a day of the session's time zone may have 23 or 25 hours
        microseconds = maximum_age // timedelta(microseconds=1)
        oldest = sql.SQL("a.moment - {}::interval").format(sql.Literal(f"{microseconds} microseconds"))
    vectors = sql.SQL(QUERIES.as_known_then if as_known_then else QUERIES.as_of_now).format(
        values=typed_columns.values(schema), oldest=oldest, use_case=sql.Literal(use_case)
    )
    return sql.SQL(QUERIES.in_columns).format(columns=typed_columns.columns(schema), vectors=vectors)


def _workers(settings: Settings, labels: int, wanted: int | None) -> int:
    most = wanted if wanted is not None else min(os.cpu_count() or 1, settings.database.pool_size)
    return max(1, min(most, labels // LABELS_A_WORKER))


def _ask(connection: Connection, parts: list[LabelKeys], query: sql.Composed, answer: _Answer) -> None:
    """Answer some parts, one after the other, on one connection."""
    connection.execute(QUERIES.stage_labels)
    for number, part in enumerate(parts):
        if number:
            connection.execute(QUERIES.clear_labels)
        with connection.cursor().copy(QUERIES.copy_labels) as copy:
            copy.write(part.as_binary_copy())
        cursor = connection.cursor(binary=True)
        cursor.execute(query)
        result = cursor.pgresult
        assert result is not None
        answer.take([result.get_value(0, field) for field in range(result.nfields)])
