"""The keys of labels, entity and moment, checked and in the form in which they travel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NoReturn
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mage_platform.errors import FeaturesInvalid

LABEL_ENTITY_ID, LABEL_EVENT_TIME = "entity_id", "event_time"
MOMENT = pa.timestamp("us", tz="UTC")
_DASHES = (8, 13, 18, 23)
_DIGITS = [place for place in range(36) if place not in _DASHES]
_NIBBLES = np.full(256, 255, np.uint8)
for _digit, _character in enumerate(b"0123456789abcdef"):
    _NIBBLES[[_character, *chr(_character).upper().encode()]] = _digit
# Python's years, which PostgreSQL's are a superset of: 1 to 9999, in microseconds since 1970
_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_800_000_000

_SINCE_2000 = 946_684_800_000_000  # where PostgreSQL's own count of microseconds begins
_COPY_RECORD = np.dtype(
    [
        ("fields", ">i2"),
        ("label_bytes", ">i4"),
        ("label", ">i4"),
        ("entity_bytes", ">i4"),
        ("entity_id", "u1", 16),
        ("moment_bytes", ">i4"),
        ("moment", ">i8"),
    ]
)


@dataclass(frozen=True)
class LabelKeys:
    """Keys of all labels, ordered by entity, so that the labels of one entity meet the same pages of the index."""

    rows: npt.NDArray[np.int32]
    """Place of each label among those given, from 0."""
    entity_ids: npt.NDArray[np.uint8]
    """UUIDs as 16 bytes each; shape (labels, 16)."""
    moments: npt.NDArray[np.int64]
    """Event times, microseconds since 1970 UTC, rounded down."""

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, count: int) -> list[LabelKeys]:
        """Cut into `count` parts of about the same length."""
        cuts = np.linspace(0, len(self), count + 1).astype(int)
        spans = [slice(start, end) for start, end in pairwise(cuts)]
        return [LabelKeys(self.rows[span], self.entity_ids[span], self.moments[span]) for span in spans]

    def as_binary_copy(self) -> bytes:
        """What `COPY (label integer, entity_id uuid, moment timestamptz) (FORMAT binary)` reads."""
        records = np.empty(len(self), _COPY_RECORD)
        records["fields"], records["label_bytes"], records["entity_bytes"], records["moment_bytes"] = 3, 4, 16, 8
        records["label"], records["moment"] = self.rows, self.moments - _SINCE_2000
        records["entity_id"] = self.entity_ids
        return b"PGCOPY\n\xff\r\n\0" + bytes(8) + records.tobytes() + b"\xff\xff"


def as_table(labels: pa.Table | pd.DataFrame) -> pa.Table:
    """Labels as a table, whichever form they came in; the index of a data frame is left out.

    Raises:
        FeaturesInvalid: A key column is missing or repeated, or holds values of kinds that do not mix; names it.
    """
    names = list(labels.column_names if isinstance(labels, pa.Table) else labels.columns)
    for name in (LABEL_ENTITY_ID, LABEL_EVENT_TIME):
        if names.count(name) != 1:
            _refuse(
                name, f"the labels have {names.count(name)} columns {name!r}; they have {', '.join(map(str, names))}"
            )
    if isinstance(labels, pa.Table):
        return labels
    moments = labels[LABEL_EVENT_TIME]
    if moments.dtype == object:
        _refuse_naive_objects(moments)
        labels = labels.assign(**{LABEL_EVENT_TIME: pd.to_datetime(moments, utc=True)})
    ids = labels[LABEL_ENTITY_ID]
    if ids.dtype == object and any(isinstance(value, UUID) for value in ids):
        labels = labels.assign(**{LABEL_ENTITY_ID: [str(v) if isinstance(v, UUID) else v for v in ids]})
    try:
        return pa.Table.from_pandas(labels, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise FeaturesInvalid(f"the labels do not fit into typed columns: {error}", field="labels") from error


def label_keys(table: pa.Table) -> LabelKeys:
    """Check the keys of labels and bring them into the order of their entities.

    Args:
        table: With `entity_id` (text in the canonical form of a UUID, or 16 bytes) and `event_time` (a timestamp with
            time zone, of any unit).

    Raises:
        FeaturesInvalid: Names the column, the first wrong value and its row, counted from 0.
    """
    ids, moments = _entity_ids(table[LABEL_ENTITY_ID]), _moments(table[LABEL_EVENT_TIME])
    # the first eight bytes of a UUID tell nearly every two apart; the few that they do not only lie less close
    order = np.lexsort((moments, ids.view(">u8")[:, 0].astype(np.uint64)))
    return LabelKeys(rows=order.astype(np.int32), entity_ids=ids[order], moments=moments[order])


def _entity_ids(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    _refuse_nulls(LABEL_ENTITY_ID, column)
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if column.type == pa.binary(16):
        values = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(16))
        start = values.offset * 16
        return np.frombuffer(values.buffers()[1] or b"", np.uint8)[start : start + len(values) * 16].reshape(-1, 16)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        if len(column):
            _refuse(LABEL_ENTITY_ID, f"it holds {column.type}, not the text of UUIDs")
        column = column.cast(pa.string())
    lengths = pc.binary_length(column).to_numpy()
    if (wrong := lengths != 36).any():
        _refuse_id(column, int(wrong.argmax()))
    text = np.frombuffer(b"".join(_characters(chunk) for chunk in column.chunks), np.uint8).reshape(-1, 36)
    nibbles = _NIBBLES[text[:, _DIGITS]]
    wrong = (nibbles == 255).any(axis=1) | (text[:, _DASHES] != ord("-")).any(axis=1)
    if wrong.any():
        _refuse_id(column, int(wrong.argmax()))
    return np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2])


def _characters(chunk: pa.Array) -> memoryview:
    """The bytes of a chunk of text, one value behind the other; every value has 36."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int64 if pa.types.is_large_string(chunk.type) else np.int32)
    start = int(offsets[chunk.offset])
    return memoryview(chunk.buffers()[2] or b"")[start : start + 36 * len(chunk)]


def _moments(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    _refuse_nulls(LABEL_EVENT_TIME, column)
    if not pa.types.is_timestamp(column.type):
        if len(column):
            _refuse(LABEL_EVENT_TIME, f"it holds {column.type}, not timestamps with a time zone")
        return np.array([], np.int64)
    if column.type.tz is None:
        first = f", the first is {column[0].as_py()}" if len(column) else ""
        _refuse(LABEL_EVENT_TIME, f"its timestamps have no time zone{first}; name the zone they were meant in")
    ticks: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    # seconds and milliseconds become more, nanoseconds are rounded down: a vector of the same microsecond, which may
    # be later than the label, would else be known too early
    times, over = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}[column.type.unit]
    wrong = (ticks < _EARLIEST // times) | (ticks >= _LATEST // times) if over == 1 else np.zeros(len(ticks), bool)
    if wrong.any():
        row = int(wrong.argmax())
        _refuse(LABEL_EVENT_TIME, f"row {row:,} lies outside the years 1 to 9999 ({ticks[row]} {column.type.unit})")
    moments: npt.NDArray[np.int64] = ticks * times if over == 1 else ticks // over
    return moments


def _refuse_naive_objects(moments: pd.Series[Any]) -> None:
    for row, value in enumerate(moments):
        if isinstance(value, datetime) and not pd.isna(value) and value.tzinfo is None:
            _refuse(
                LABEL_EVENT_TIME, f"row {row:,} has no time zone: {value.isoformat()}; name the zone it was meant in"
            )
        if not isinstance(value, datetime) and not pd.isna(value):
            _refuse(LABEL_EVENT_TIME, f"row {row:,} is {value!r}, not a datetime with a time zone")


def _refuse_nulls(name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.argmax(pc.is_null(column).to_numpy()))
        _refuse(name, f"{column.null_count:,} of {len(column):,} are missing, the first in row {row:,}")


def _refuse_id(column: pa.ChunkedArray, row: int) -> NoReturn:
    _refuse(
        LABEL_ENTITY_ID, f"row {row:,} is {column[row].as_py()!r}, not a UUID like 7cf06540-e6e0-54cb-8483-c525c4b50d97"
    )


def _refuse(name: str, sentence: str) -> NoReturn:
    raise FeaturesInvalid(f"labels, column {name}: {sentence}. Nothing was sent", field=f"labels.{name}")
