"""Reading of batches: JSON in pieces beside a parser of the whole, columns beside the encoding of single values."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import SidecarUnavailable
from serving.batch import arrow, json_pieces
from serving.batch.columns import ColumnEncoder
from serving.batch.json_pieces import Cursor
from serving.encoding import RowEncoder, VectorRefused
from serving.problems import BodyMalformed
from serving.room import Berths

SCHEMA = InputSchema(
    columns={
        "hour": FeatureColumn(type="integer", minimum=0, maximum=23, missing="allowed"),
        "rate": FeatureColumn(type="number", missing="allowed"),
        "carrier": FeatureColumn(type="category", missing="allowed"),
        "runway": FeatureColumn(type="category"),
        "stand": FeatureColumn(type="integer", missing="allowed"),
        "wet": FeatureColumn(type="boolean", missing="allowed"),
        "constant": FeatureColumn(type="integer", maximum=9007199254740992),
    }
)
NAMES = ["carrier", "hour", "rate", "runway", "wet", "stand"]
DOMAINS = [["AA", "UA"], None, None, ["1", "2", "10"], ["False", "True"], ["1", "2", "30"]]
ROWS = RowEncoder(SCHEMA, NAMES, DOMAINS)
COLUMNS = ColumnEncoder(ROWS, {name: levels for name, levels in zip(NAMES, DOMAINS, strict=True) if levels})
VALID: dict[str, Any] = {"runway": "1", "constant": 3}

texts = st.sampled_from(["AA", "UA", "ZZ", "1", "10", "", "a,b", '],["{', '"', "\\", "}, {", "},{", "é☃"])
numbers = st.one_of(
    st.integers(-3, 30),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([-0.0, 0.0, 23, 23.0, 24, 1e308, 10**400, 2**53, 2**53 + 1, -(2**63), 0.1, 30.0]),
)
values = st.one_of(st.none(), st.booleans(), numbers, texts)


def read(body: bytes) -> Any:
    """A whole object, its arrays in pieces."""
    cursor, found = Cursor(body), {}
    for key in cursor.members():
        if cursor.begins(b"["):
            begin = cursor.at
            cursor.skip_array()
            end, cursor.at = cursor.at, begin
            pieces = cursor.rows(from_json) if key == "rows" else cursor.values()
            found[key] = [value for piece in pieces for value in piece]
            assert cursor.at == end
        else:
            found[key] = cursor.scalar()
    cursor.end()
    return found


@given(
    st.lists(values.filter(lambda value: value != 10**400), max_size=30),
    st.lists(st.fixed_dictionaries({"id": texts, "features": st.dictionaries(texts, values, max_size=3)}), max_size=20),
    st.sampled_from([8, 40, 300, 1 << 16]),
    st.sampled_from([None, 1]),
)
@settings(max_examples=200, deadline=None)
def test_pieces_make_the_whole(column: list[Any], rows: list[Any], piece_bytes: int, indent: int | None) -> None:
    body = json.dumps({"u": "x", "rows": rows, "column": column, "n": None}, indent=indent).encode()
    before, json_pieces.PIECE_BYTES = json_pieces.PIECE_BYTES, piece_bytes
    try:
        assert repr(read(body)) == repr(json.loads(body))
    finally:
        json_pieces.PIECE_BYTES = before


@given(st.lists(texts, min_size=1, max_size=12), st.data())
@settings(max_examples=300, deadline=None)
def test_what_a_parser_of_the_whole_refuses_is_refused_in_pieces(column: list[str], data: Any) -> None:
    body = bytearray(json.dumps({"u": 1, "column": column, "rows": [{"a": column[0]}] * 3}).encode())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(list(b'",]}[{:1a\\ \x00')))
    try:
        whole = from_json(bytes(body))
    except ValueError:
        whole = None
    before, json_pieces.PIECE_BYTES = json_pieces.PIECE_BYTES, 16
    try:
        found = read(bytes(body))
    except BodyMalformed:
        return  # stricter about what no batch may hold: arrays where values stand, and the like
    finally:
        json_pieces.PIECE_BYTES = before
    assert repr(found) == repr(whole)


def bits(number: float) -> bytes:
    return b"missing" if math.isnan(number) else struct.pack("=d", number)


def alone(name: str, value: Any) -> bytes | None:
    """How a single prediction encodes a value; None where it refuses it."""
    try:
        row = ROWS.encode(VALID | {name: value})
    except VectorRefused:
        return None
    return bits(struct.unpack("=6d", row)[NAMES.index(name)])


def in_column(name: str, column: list[Any]) -> list[bytes | None]:
    encoded = COLUMNS.from_values(name, column, 5)
    assert [row for row, _ in encoded.faults] == encoded.refused
    for row, fault in encoded.faults:
        assert fault.field == f"columns.{name}.{row}"
        assert fault.message == ROWS.faults(VALID | {name: column[row - 5]})[0].message
    return [None if row in encoded.refused else bits(number) for row, number in enumerate(encoded.values.tolist(), 5)]


@pytest.mark.parametrize("name", NAMES)
@given(st.one_of(st.lists(values, max_size=8), st.lists(numbers, max_size=8), st.lists(texts, max_size=8)))
@example([1, 2.0, 30, 4])
@example([-0.0, None])
@example([None, math.nan])
@example([2**53 + 1, 0.5])
@example([10**400, 1])
@settings(max_examples=150, deadline=None)
def test_a_column_is_encoded_as_its_values_are_alone(name: str, column: list[Any]) -> None:
    assert in_column(name, column) == [alone(name, value) for value in column]


def test_a_limit_beyond_exact_whole_numbers_is_held_exactly() -> None:
    encoded = COLUMNS.from_values("constant", [2**53, 2**53 + 1])
    assert encoded.refused == [1]


ARROWS = {
    "hour": [
        pa.array([1, None, 23], pa.int8()),
        pa.array([1, 24, 3], pa.uint64()),
        pa.array([1.0, 2.5, None], pa.float32()),
        pa.array([7, None, 7]).dictionary_encode(),
        pa.array([None, None]),
        pa.array([2**63, 1], pa.uint64()),
    ],
    "rate": [
        pa.array([0.1, -0.0, None], pa.float32()),
        pa.array([0.1, math.nan, None]),
        pa.array([math.inf, 1.0]),
        pa.array([2**53 + 1, None], pa.int64()),
        pa.array(np.array([1.5, 2], np.float16)),
    ],
    "carrier": [
        pa.array(["AA", None, "ZZ"]),
        pa.array(["UA", "AA"], pa.large_string()),
        pa.array(["UA", None, "AA", "UA"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int8()), pa.array(["AA", None, "ZZ"])),
    ],
    "runway": [pa.array(["1", None, "7"]), pa.array(["10", "2"]).dictionary_encode()],
    "stand": [pa.array([1, 2, 30, 4, None], pa.int16())],
    "wet": [pa.array([True, None, False])],
}


@pytest.mark.parametrize(("name", "array"), [(name, array) for name, arrays in ARROWS.items() for array in arrays])
def test_an_arrow_column_means_what_its_values_mean_in_json(name: str, array: pa.Array) -> None:
    encoded = arrow.encode(COLUMNS, name, pa.chunked_array([array, array]))
    assert not isinstance(encoded, arrow.Fault)
    expected = [alone(name, value) for value in array.to_pylist()] * 2
    rows = enumerate(encoded.values.tolist())
    assert [None if row in encoded.refused else bits(number) for row, number in rows] == expected


@pytest.mark.parametrize(
    ("name", "array", "rule"),
    [
        ("hour", pa.array([True]), "must be a column of integers, or of floats without a fraction"),
        ("hour", pa.array(["1"]), "must be a column of integers, or of floats without a fraction"),
        ("rate", pa.array([1], pa.decimal128(5, 2)), "must be a column of integers or floats"),
        ("rate", pa.array([1], pa.timestamp("us", "UTC")), "must be a column of integers or floats"),
        ("carrier", pa.array([1]), "must be a column of text"),
        ("carrier", pa.array(["AA"], pa.string_view()), "must be a column of text"),
        ("carrier", pa.array([b"AA"]), "must be a column of text"),
        ("wet", pa.array([1]), "must be a column of booleans"),
        ("wet", pa.array([[True]]), "must be a column of booleans"),
    ],
)
def test_an_arrow_column_of_a_wrong_type_is_refused_as_a_whole(name: str, array: pa.Array, rule: str) -> None:
    assert arrow.encode(COLUMNS, name, pa.chunked_array([array])) == arrow.Fault(
        f"columns.{name}", rule, f"Arrow {array.type}"
    )


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


TABLE = pa.table({"hour": [1, 2, 3], "carrier": pa.array(["AA", "UA", "AA"]).dictionary_encode()})


def test_an_arrow_stream_is_read() -> None:
    assert arrow.read_table(stream(TABLE), 3).equals(TABLE)
    with pytest.raises(OverflowError):
        arrow.read_table(stream(TABLE), 2)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_arrow_stream_is_refused(compression: str) -> None:
    with pytest.raises(BodyMalformed, match="write it without compression"):
        arrow.read_table(stream(TABLE, compression=compression), 3)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_damaged_arrow_stream_is_refused_or_read_but_never_more(data: Any) -> None:
    body = bytearray(stream(TABLE))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = arrow.read_table(bytes(body[: data.draw(st.integers(0, len(body)))]), 3)
    except (BodyMalformed, OverflowError):
        return
    table.to_pylist()


def test_room_is_made_for_as_many_bodies_as_fit() -> None:
    room = Berths(100, 3)
    held = [room.take(60), room.take(40)]
    with pytest.raises(SidecarUnavailable, match="100 bytes"):
        room.take(1)
    room.give_back(held.pop())
    held += [room.take(20), room.take(20)]
    room.give_back(held.pop())
    room.give_back(held.pop())
    room.give_back(held.pop())
    assert (room.bytes, room.under_way) == (0, 0)
    assert room.take(500) == 500  # one that is too long for all is held against the limit of its route
