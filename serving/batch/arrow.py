"""Arrow streams: columns in, predictions out. The only door to pyarrow, which is loaded with the first stream.

A stream comes from outside: nothing of it is believed before `validate(full=True)`. Compressed buffers are refused,
since a few kilobytes may unpack to any size, and so are views of text, where many rows may share one long text.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from mage_platform.contracts import BatchHead
from serving.batch.columns import Column, ColumnEncoder, Floats
from serving.batch.gathered import Batch, Columns, of_entities, too_many_rows
from serving.encoding import Fault
from serving.models import ServedModel
from serving.problems import BodyMalformed, RequestInvalid

STREAM = "application/vnd.apache.arrow.stream"
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DATA, _COMPRESSION = 1, 3
_RULES = {
    "integer": "must be a column of integers, or of floats without a fraction",
    "number": "must be a column of integers or floats",
    "category": "must be a column of text",
    "boolean": "must be a column of booleans",
}


def read_table(body: bytes, maximum_rows: int) -> pa.Table:
    """The table a stream holds, checked from end to end.

    Raises:
        BodyMalformed: It is no Arrow stream, or a compressed one.
        OverflowError: It has more rows than that.
    """
    try:
        _refuse_compression(body)
        with ipc.open_stream(pa.py_buffer(body)) as reader:
            batches, rows = [], 0
            for batch in reader:
                rows += batch.num_rows
                if rows > maximum_rows:
                    raise OverflowError(rows)
                batch.validate(full=True)
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, ValueError, OSError, struct.error, IndexError) as error:
        raise BodyMalformed(f"the body is not an Arrow stream the sidecar reads: {error}") from None


def _refuse_compression(body: bytes) -> None:
    for message in ipc.MessageReader.open_stream(pa.py_buffer(body)):
        metadata = memoryview(message.metadata)
        root = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, root, _HEADER_TYPE)
        if kind is None or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            continue
        batch = _table(metadata, root, _HEADER)
        if metadata[kind] == _DICTIONARY_BATCH:
            batch = _table(metadata, batch, _DATA)
        if _field(metadata, batch, _COMPRESSION) is not None:
            raise ValueError("it is compressed; write it without compression")


def _table(metadata: memoryview, table: int, index: int) -> int:
    """Place of a table within a table of a flatbuffer."""
    place = _field(metadata, table, index)
    if place is None:
        raise ValueError("its metadata is incomplete")
    return place + int(struct.unpack_from("<I", metadata, place)[0])


def _field(metadata: memoryview, table: int, index: int) -> int | None:
    """Place of a field of a table of a flatbuffer; None where it is left out."""
    entries = table - struct.unpack_from("<i", metadata, table)[0]
    size = struct.unpack_from("<H", metadata, entries)[0]
    at = 4 + 2 * index
    offset = struct.unpack_from("<H", metadata, entries + at)[0] if at + 2 <= size else 0
    return table + int(offset) if offset else None


def texts(column: pa.ChunkedArray) -> list[str | None]:
    """A column of text as Python has it.

    Raises:
        TypeError: It holds something else.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise TypeError(str(column.type))
    return list(column.to_pylist())


def encode(encoder: ColumnEncoder, name: str, column: pa.ChunkedArray) -> Column | Fault:
    """Encode one column of a stream. Null is missing; what a value means is the same as in JSON.

    Args:
        encoder: Of the model.
        name: A feature of its schema.
        column: Its values.

    Returns:
        A fault where the column as a whole is of a type that the feature never has.
    """
    declared = encoder.schema.columns[name]
    kind = column.type
    if pa.types.is_null(kind):
        return encoder.from_values(name, [None] * len(column))
    if pa.types.is_dictionary(kind) and declared.type != "category":
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type)
        kind = column.type
    if not _fits(declared.type, kind):
        return Fault(f"columns.{name}", _RULES[declared.type], f"Arrow {kind}")
    if declared.missing != "allowed" and column.null_count:
        encoded = None
    elif declared.type == "category":
        encoded = _categories(encoder, name, column)
    elif declared.type == "boolean":
        encoded = encoder.booleans(name, _floats(pc.cast(column, pa.int8())))
    else:
        whole = not pa.types.is_floating(kind)
        encoded = encoder.from_numbers(name, _floats(column), column.null_count, whole=whole)
    return encoder.from_values(name, column.to_pylist()) if encoded is None else Column(encoded)


def _fits(declared: str, kind: pa.DataType) -> bool:
    if declared == "category":
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if declared == "boolean":
        return bool(pa.types.is_boolean(kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _floats(column: pa.ChunkedArray) -> Floats:
    if column.type == pa.float16():
        column = pc.cast(column, pa.float32())
    found: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return found


def _categories(encoder: ColumnEncoder, name: str, column: pa.ChunkedArray) -> Floats | None:
    parts: list[Floats] = []
    for chunk in column.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        levels = coded.dictionary.to_pylist()
        codes = [encoder.code(name, level) for level in levels]
        if any(code is None for code in codes):
            return None
        # One more for rows without a level.
        by_index = np.array([*codes, np.nan], np.float64)
        indices = pc.fill_null(pc.cast(coded.indices, pa.int64()), len(levels))
        parts.append(by_index[indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.empty(0)


def read_batch(body: bytes, head: BatchHead, model: ServedModel, encoder: ColumnEncoder, maximum_rows: int) -> Batch:
    """A batch out of a stream: a column for each feature, and `entity_id` where the caller has ids.

    Raises:
        PlatformError: It is none, or has faulty rows and does not want them reported.
    """
    try:
        table = read_table(body, maximum_rows)
    except OverflowError:
        raise too_many_rows(maximum_rows) from None
    columns = Columns(model, encoder, head.region)
    entity_ids = None
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name == "entity_id" and entity_ids is None:
            try:
                entity_ids = texts(column)
            except TypeError as error:
                raise RequestInvalid([Fault("entity_ids", "must be a column of text", f"Arrow {error}")]) from None
        elif columns.accepts(name):
            encoded = encode(columns.encoder, name, column)
            if isinstance(encoded, Fault):
                columns.fault(encoded)
            else:
                columns.add(name, encoded)
    if entity_ids is not None and table.num_columns == 1:
        batch = of_entities(head, model, entity_ids)
    else:
        batch = columns.batch(head, entity_ids)
    batch.hold()
    return batch


def write_table(columns: Mapping[str, tuple[str, Any]], facts: Mapping[str, str]) -> bytes:
    """A stream with these columns.

    Args:
        columns: By name `text` or `float`, and the values; None and NaN are null.
        facts: Metadata of the schema.
    """
    known = {"text": pa.string(), "float": pa.float64()}
    table = pa.table(
        {name: pa.array(values, known[kind], from_pandas=True) for name, (kind, values) in columns.items()}
    )
    table = table.replace_schema_metadata(dict(facts))
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)
    return bytes(sink.getvalue())
