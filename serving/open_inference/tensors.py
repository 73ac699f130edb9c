"""Tensors: from the protocol's JSON and bytes to one list of values a feature, and back.

A value means what it means everywhere in the sidecar. The datatype says how it travels: an FP32 is taken as the float64
that equals it exactly, also when it is written as a decimal number in JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mage_platform.contracts import InputSchema
from serving.encoding import Fault
from serving.open_inference.messages import Datatype, InferenceRequest, RequestInput
from serving.problems import RequestInvalid

MAXIMUM_ROWS = 10_000
NUMBERS: dict[str, str] = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
"""Their formats in `struct`."""
DATATYPES: dict[str, Datatype] = {"integer": "INT64", "number": "FP64", "category": "BYTES", "boolean": "BOOL"}
"""What a feature of each type is best sent as."""
_FLOATS = ("FP16", "FP32", "FP64")


@dataclass(frozen=True)
class Output:
    """An output of some rows.

    Args:
        name: Its name.
        datatype: BYTES for text.
        shape: Of all its values.
        values: Flat, row by row.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: Sequence[Any]


class _Wrong(Exception):  # a signal inside this module
    """What a tensor is refused for.

    Args:
        rule: What it breaks.
        value: The offending one.
        at: Its row; none when the tensor as a whole is wrong.
    """

    def __init__(self, rule: str, value: Any = None, at: int | None = None) -> None:
        super().__init__(rule)
        self.rule, self.value, self.at = rule, value, at


def read_columns(request: InferenceRequest, after: bytes, schema: InputSchema, region_feature: str | None) -> Columns:
    """The values of all features.

    Args:
        request: Names and describes the tensors.
        after: The bytes that follow its JSON.
        schema: The model's features.
        region_feature: The one that the model's name stands for, if any.

    Returns:
        A list of values for each feature that was sent, all of the same length.

    Raises:
        RequestInvalid: Names everything that is wrong with the tensors.
    """
    faults: list[Fault] = []
    columns: dict[str, list[Any]] = {}
    place, rows = 0, None
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size")
        field = f"inputs.{tensor.name}"
        try:
            if tensor.name in columns:
                raise _Wrong("is sent twice")
            data = None
            if size is not None:
                if type(size) is not int or not 0 <= size <= len(after) - place:
                    left = len(after) - place
                    raise _Wrong(f"must have a binary_data_size of at most the {left} bytes that are left", size)
                data, place = after[place : place + size], place + size
            _require_datatype(tensor, schema, region_feature)
            rows = _rows(tensor, rows)
            columns[tensor.name] = _values(tensor, data, rows, request.parameters)
        except _Wrong as wrong:
            at = "" if wrong.at is None else f"[{wrong.at}]"
            faults.append(Fault(f"{field}{at}", wrong.rule, wrong.value))
            columns.setdefault(tensor.name, [])
    faults += [
        Fault(f"inputs.{name}", "is missing")
        for name, column in schema.columns.items()
        if name not in columns and name != region_feature and column.missing == "refused"
    ]
    if place != len(after) and not faults:
        faults.append(Fault("body", f"must not go on after its last tensor; {len(after) - place} bytes are left over"))
    if faults or rows is None:
        raise RequestInvalid(faults or [Fault("inputs", "must hold at least one tensor")])
    return Columns(rows, columns)


@dataclass(frozen=True)
class Columns:
    """Rows, feature by feature.

    Args:
        rows: How many.
        values: Of each feature that was sent.
    """

    rows: int
    values: Mapping[str, Sequence[Any]]

    def vectors(self, start: int, end: int) -> list[dict[str, Any]]:
        """Some of the rows as feature vectors."""
        names = list(self.values)
        some = [values[start:end] for values in self.values.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*some, strict=True)]


def _require_datatype(tensor: RequestInput, schema: InputSchema, region_feature: str | None) -> None:
    if tensor.name == region_feature:
        raise _Wrong("is the region, which the model's name gives")
    column = schema.columns.get(tensor.name)
    if column is None:
        raise _Wrong("is not a feature of this model")
    best = DATATYPES[column.type]
    if tensor.datatype != best and not (tensor.datatype in NUMBERS and best in NUMBERS):
        article = "an" if column.type == "integer" else "a"
        raise _Wrong(f"is {article} {column.type}: it must be of datatype {best}", tensor.datatype)


def _rows(tensor: RequestInput, others: int | None) -> int:
    shape = tensor.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise _Wrong("must be of shape [rows] or [rows, 1]", shape)
    if not 1 <= shape[0] <= MAXIMUM_ROWS:
        raise _Wrong(f"must have 1 to {MAXIMUM_ROWS} rows", shape)
    if others is not None and shape[0] != others:
        raise _Wrong(f"must have as many rows as the tensors before it, which have {others}", shape)
    return shape[0]


def _values(tensor: RequestInput, data: bytes | None, rows: int, parameters: Mapping[str, Any]) -> list[Any]:
    if "shared_memory_region" in tensor.parameters:
        raise _Wrong("must be sent in the request: shared memory is not read")
    if data is not None:
        values = _from_bytes(tensor.datatype, data, rows)
    elif tensor.data is None:
        raise _Wrong("must have data, or a binary_data_size")
    else:
        flat = list(chain.from_iterable(one if isinstance(one, list) else (one,) for one in tensor.data))
        if len(flat) != rows:
            raise _Wrong(f"must have as many values as its shape says, {rows}", len(flat))
        values = _from_json(tensor.datatype, flat)
    if tensor.datatype in _FLOATS and parameters.get("nan_is_missing") is True:
        return [None if value != value else value for value in values]
    if tensor.datatype == "BYTES" and parameters.get("empty_is_missing") is True:
        return [value or None for value in values]
    return values


def _from_bytes(datatype: str, data: bytes, rows: int) -> list[Any]:
    """Little-endian and without padding, as the protocol has it."""
    if datatype == "BYTES":
        return _texts(data, rows)
    layout = struct.Struct(f"<{rows}{NUMBERS.get(datatype, 'B')}")
    if len(data) != layout.size:
        raise _Wrong(f"must have {layout.size} bytes for {rows} values of {datatype}", len(data))
    values = list(layout.unpack(data))
    if datatype != "BOOL":
        return values
    for at, value in enumerate(values):
        if value > 1:
            raise _Wrong("must be 0 or 1, the bytes of false and true", value, at)
    return [value == 1 for value in values]


def _texts(data: bytes, rows: int) -> list[Any]:
    values, place = [], 0
    for at in range(rows):
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4
        if place + length > len(data):
            raise _Wrong("must be four bytes of length and as many bytes of text; it ends before", None, at)
        try:
            values.append(data[place : place + length].decode())
        except UnicodeDecodeError:
            raise _Wrong("must be UTF-8", repr(data[place : place + length]), at) from None
        place += length
    if place != len(data):
        raise _Wrong(f"must end after {rows} values; {len(data) - place} bytes are left over")
    return values


def _from_json(datatype: str, values: list[Any]) -> list[Any]:
    kinds: tuple[type, ...] = {"BOOL": (bool,), "BYTES": (str,)}.get(
        datatype, (int, float) if datatype in _FLOATS else (int,)
    )
    what = {"BOOL": "true or false", "BYTES": "text"}.get(datatype, "a number" if float in kinds else "a whole number")
    for at, value in enumerate(values):
        if value is not None and type(value) not in kinds:
            raise _Wrong(f"must be {what}, as {datatype} is", value, at)
    if datatype not in NUMBERS or datatype == "FP64":
        return values
    one = struct.Struct(f"<{NUMBERS[datatype]}")
    read = []
    for at, value in enumerate(values):
        try:
            read.append(None if value is None else one.unpack(one.pack(value))[0])
        except (struct.error, OverflowError):
            raise _Wrong(f"must be within the range of {datatype}", value, at) from None
    return read


def write_outputs(answer: dict[str, Any], outputs: Sequence[tuple[Output, bool]]) -> tuple[bytes, int | None]:
    """The whole answer.

    Args:
        answer: Its JSON but for the outputs.
        outputs: Each with whether it is wanted as bytes.

    Returns:
        The body, and the length of its JSON where bytes follow.
    """
    described, after = [], []
    for output, as_bytes in outputs:
        one: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
        if as_bytes:
            data = _as_bytes(output)
            one["parameters"] = {"binary_data_size": len(data)}
            after.append(data)
        else:
            one["data"] = output.values
        described.append(one)
    text = json.dumps({**answer, "outputs": described}, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([text, *after]), len(text) if after else None


def _as_bytes(output: Output) -> bytes:
    if output.datatype != "BYTES":
        return struct.pack(f"<{len(output.values)}{NUMBERS[output.datatype]}", *output.values)
    texts = [text.encode() for text in output.values]
    return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
