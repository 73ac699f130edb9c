"""Labels with their vectors, read on several connections side by side and put together batch by batch, in order."""

from __future__ import annotations

import heapq
import os
import struct
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import LiteralString
from uuid import UUID

import numpy as np
import pyarrow as pa
from psycopg import sql

from mage_platform.contracts import InputSchema, TargetKind
from mage_platform.database import Queries, connect
from mage_platform.database.connections import Connection
from mage_platform.features import typed_columns
from mage_platform.features.one_state import share_one_state
from mage_platform.features.typed_columns import Numbers, array_values, is_number, text_values, uuid_values
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, LABEL, REGION
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("training_set.sql"))
ROWS_A_BATCH = 20_000
LABELS_A_WORKER = 50_000
"""Fewer are not worth a connection of their own."""
_LABELS_A_SAMPLED_ONE = 100
_COPY_HEADER_BYTES, _COPY_SIGNATURE = 19, b"PGCOPY\n\xff\r\n\0"
_SINCE_2000 = 946_684_800_000_000  # where PostgreSQL's count of microseconds begins


@dataclass(frozen=True)
class Span:
    """Which labels are read: those of a region with `start <= event_time < until`; no start takes all there are."""

    use_case: str
    region: str | None
    """None: of all regions together."""
    region_feature: str | None
    """The feature that holds the region, where that is no stored one."""
    kind: TargetKind
    start: datetime | None
    until: datetime
    train_until: datetime
    train_share: float
    """Share of the entities whose labels before `train_until` are read."""
    ends: list[datetime]
    """Ends of the parts of the window, in order: a label counts if it was known at the end of its part."""


@dataclass(frozen=True)
class Batch:
    """Rows of neighbouring event times, ordered by event time and entity."""

    moments: Numbers
    """Event times, microseconds since 1970 UTC."""
    rows: pa.RecordBatch
    """As `row_schema` says."""


@dataclass(frozen=True)
class Cuts:
    """Where batches begin, so that each has about as many rows."""

    moments: list[datetime]
    crowded: list[datetime]
    """Moments that alone hold more than a batch: cut by entity as well."""
    entities: list[UUID]


@dataclass(frozen=True)
class _Answer:
    """What one connection has of a batch."""

    place: tuple[int, ...]
    fields: list[bytes | None]


def row_schema(schema: InputSchema, kind: TargetKind) -> pa.Schema:
    """A row as it is read: keys, the label as text or number, numbers as float64, categories and booleans as text."""
    features = ((name, pa.float64() if is_number(column) else pa.string()) for name, column in schema.columns.items())
    keys = [(ENTITY_ID, pa.binary(16)), (EVENT_TIME, pa.timestamp("us", tz="UTC")), (REGION, pa.string())]
    label = (LABEL, pa.float64() if kind == "regression" else pa.string())
    return pa.schema([*keys, label, *features])


def read_span(settings: Settings, span: Span, schema: InputSchema, *, workers: int | None = None) -> Iterator[Batch]:
    """Every label of a span that has a vector, all of one state of the store.

    Args:
        workers: Connections side by side; None takes one for each processor. Few labels take fewer.

    Yields:
        Batches in order; the next one is on its way meanwhile.
    """
    with ExitStack() as leaving:
        first = leaving.enter_context(connect(settings))
        sample = first.execute(_composed(QUERIES.sample_labels, span)).fetchall()
        partitions = first.execute(QUERIES.partitions).fetchall()
        first.rollback()  # sharing a state must come first in a transaction
        most = workers or min(os.cpu_count() or 1, settings.database.pool_size)
        count = max(1, min(most, len(partitions), len(sample) * _LABELS_A_SAMPLED_ONE // LABELS_A_WORKER))
        connections = [first, *(leaving.enter_context(connect(settings)) for _ in range(count - 1))]
        share_one_state(connections)
        cuts, answers = cuts_of(sample), []
        for number, connection in enumerate(connections):
            answers.append(_answers(connection, _query(span, cuts, schema, partitions[number::count])))
            leaving.callback(answers[-1].close)
        pool = leaving.enter_context(ThreadPoolExecutor(count, "training-read"))
        leaving.push(_Cancel(connections))
        asked = [pool.submit(next, each, None) for each in answers]
        in_order = heapq.merge(*map(_ahead, [pool] * count, answers, asked), key=attrgetter("place"))
        for _, same in groupby(in_order, key=attrgetter("place")):
            yield _batch([each.fields for each in same], schema, span)


def cuts_of(sample: list[tuple[datetime, UUID]]) -> Cuts:
    """Cut a span into batches.

    Args:
        sample: Event time and entity of one label in a hundred, in order.
    """
    moments = [moment for moment, _ in sample]
    step = ROWS_A_BATCH // _LABELS_A_SAMPLED_ONE
    times_cut = Counter(moments[step::step])
    crowded = {moment: times for moment, times in times_cut.items() if times > 1}
    entities = sorted(entity for moment, entity in sample if moment in crowded)
    pieces = max(crowded.values(), default=0) + 1
    return Cuts(
        # what follows a crowded moment begins anew, so that its batches hold nothing else
        moments=sorted({*times_cut, *(moment + timedelta(microseconds=1) for moment in crowded)}),
        crowded=sorted(crowded),
        entities=[entities[len(entities) * place // pieces] for place in range(1, pieces)],
    )


class _Cancel:
    """On an error, or when the caller wants no more: end what the server still works on."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def __call__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            for connection in self._connections:
                connection.cancel_safe()


def _ahead(pool: ThreadPoolExecutor, answers: Iterator[_Answer], asked: Future[_Answer | None]) -> Iterator[_Answer]:
    """The answers of one connection; while one is used the next is fetched."""
    while (answer := asked.result()) is not None:
        asked = pool.submit(next, answers, None)
        yield answer


def _answers(connection: Connection, query: sql.Composed) -> Generator[_Answer, None, None]:
    connection.execute(QUERIES.plan_for_many)
    with connection.cursor().copy(query) as copy:
        for message in copy:
            fields = _fields(bytes(message))
            if fields:
                place = (int.from_bytes(fields[0] or b""), int.from_bytes(fields[1] or b""))
                yield _Answer(place, fields[2:])


def _fields(message: bytes) -> list[bytes | None]:
    """The fields of one row of a binary COPY, none at its end. The header comes along with the first row."""
    place = _COPY_HEADER_BYTES if message.startswith(_COPY_SIGNATURE) else 0
    (count,) = struct.unpack_from("!h", message, place)
    place += 2
    fields: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", message, place)
        place += 4
        fields.append(None if length < 0 else message[place : place + length])
        place += max(length, 0)
    return fields


def _batch(answers: list[list[bytes | None]], schema: InputSchema, span: Span) -> Batch:
    """Put together what the connections have of a batch."""
    fields = iter(zip(*answers, strict=True))

    def numbers(kind: str) -> Numbers:
        return np.concatenate([array_values(each or b"", kind) for each in next(fields)])

    def texts() -> pa.Array:
        lengths, values = next(fields), next(fields)
        return pa.concat_arrays([text_values(size or b"", text) for size, text in zip(lengths, values, strict=True)])

    moments = numbers(">i8") + _SINCE_2000
    halves = [uuid_values(each or b"") for each in next(fields)]
    order = np.lexsort((*(np.concatenate(half) for half in reversed(list(zip(*halves, strict=True)))), moments))
    places = pa.array(order)
    label = texts().take(places)
    features = {
        name: pa.array(numbers(">f8")[order], from_pandas=True) if is_number(column) else texts().take(places)
        for name, column in _stored(schema, span).columns.items()
    }
    region = pa.repeat(pa.scalar(span.region), len(order)) if span.region is not None else texts().take(places)
    if span.region_feature is not None:
        features[span.region_feature] = region
    row = row_schema(schema, span.kind)
    keys = [_entity_ids(halves, order), pa.array(moments[order]).cast(row.field(EVENT_TIME).type), region]
    columns = [*keys, label.cast(row.field(LABEL).type), *(features[name] for name in schema.columns)]
    return Batch(moments[order], pa.RecordBatch.from_arrays(columns, schema=row))


def _entity_ids(halves: list[tuple[Numbers, Numbers]], order: Numbers) -> pa.Array:
    """The 16 bytes of each entity's id."""
    high, low = (np.concatenate(half)[order] for half in zip(*halves, strict=True))
    data = np.stack([high, low], axis=1).astype(">u8").tobytes()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(order), [None, pa.py_buffer(data)])


def _stored(schema: InputSchema, span: Span) -> InputSchema:
    """The features that lie in the vectors."""
    return InputSchema(columns={name: each for name, each in schema.columns.items() if name != span.region_feature})


def _query(span: Span, cuts: Cuts, schema: InputSchema, partitions: list[tuple[str, str]]) -> sql.Composed:
    labelled = [
        _composed(
            QUERIES.labelled_vectors,
            span,
            labels=sql.Identifier("platform", labels),
            features=sql.Identifier("platform", features),
        )
        for labels, features in partitions
    ]
    stored = _stored(schema, span)
    values: list[sql.Composable] = [typed_columns.values(stored)]
    columns: list[sql.Composable] = [typed_columns.columns(stored)]
    if span.region is None:
        values.append(sql.SQL("v.region AS of_region"))
        columns.append(sql.SQL("array_agg(octet_length(of_region)), string_agg(of_region, '')"))
    return _composed(
        QUERIES.training_batches,
        span,
        labelled=sql.SQL(" UNION ALL ").join(labelled),
        cuts=sql.Literal(cuts.moments),
        crowded=sql.Literal(cuts.crowded),
        entity_cuts=sql.Literal(cuts.entities),
        ends=sql.Literal(span.ends),
        values=sql.SQL(", ").join(values),
        columns=sql.SQL(", ").join(columns),
    )


def _composed(query: LiteralString, span: Span, **more: sql.Composable) -> sql.Composed:
    return sql.SQL(query).format(
        use_case=sql.Literal(span.use_case),
        region=sql.Literal(span.region),
        start=sql.SQL("'-infinity'::timestamptz") if span.start is None else sql.Literal(span.start),
        until=sql.Literal(span.until),
        train_until=sql.Literal(span.train_until),
        share=sql.Literal(span.train_share),
        **more,
    )
