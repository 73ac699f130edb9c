"""The requests of the serving benchmarks: the same vectors, in the words of each server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

USE_CASE, REGION = "bench", "here"
ENTITY = "7cf06540-e6e0-54cb-8483-c525c4b50d97"
DISTINCT = 2_000
V2_TYPES = {"integer": "FP64", "number": "FP64", "category": "BYTES", "boolean": "BOOL"}
"""Whole numbers too as FP64: a model's input, not an index."""

Vector = dict[str, Any]


def vectors(folder: Path, example: Vector) -> list[Vector]:
    """The vectors beside a model; else its example, the decimal numbers varied a little within their ranges."""
    if (kept := folder / "vectors.json").exists():
        return list(json.loads(kept.read_text()))
    columns = json.loads((folder / "schema.json").read_text())["columns"]
    choose = random.Random(1)

    def varied(name: str, value: Any) -> Any:
        if type(value) is not float:
            return value
        low, high = columns[name]["minimum"], columns[name]["maximum"]
        value *= choose.uniform(0.7, 1.3)
        value = value if low is None else max(value, low)
        return value if high is None else min(value, high)

    return [{name: varied(name, value) for name, value in example.items()} for _ in range(DISTINCT)]


def posts(path: str, bodies: Sequence[bytes], kind: str = "application/json") -> list[bytes]:
    """Whole HTTP requests, to be answered in the kind of their bodies."""
    made = []
    for body in bodies:
        lines = [f"POST {path} HTTP/1.1", "host: x", f"accept: {kind}", f"content-type: {kind}"]
        lines.append(f"content-length: {len(body)}")
        made.append("\r\n".join([*lines, "", ""]).encode() + body)
    return made


def single(vector: Vector) -> bytes:
    """As `POST /v1/predict` reads it."""
    return _json({"use_case": USE_CASE, "region": REGION, "entity_id": ENTITY, "features": vector})


def as_rows(some: Sequence[Vector]) -> bytes:
    """Many, one object a row."""
    rows = [{"entity_id": ENTITY, "features": vector} for vector in some]
    return _json({"use_case": USE_CASE, "region": REGION, "rows": rows})


def as_columns(some: Sequence[Vector]) -> bytes:
    """Many, one list a feature."""
    columns = {name: [vector[name] for vector in some] for name in some[0]}
    ids = [ENTITY] * len(some)
    return _json({"use_case": USE_CASE, "region": REGION, "columns": columns, "entity_ids": ids})


def as_arrow(some: Sequence[Vector]) -> bytes:
    """Many, as an Arrow stream; use case and region stand in the query."""
    import pyarrow as pa  # here, so that it does not count to the memory of the server, which reads this module too

    columns = {name: [vector[name] for vector in some] for name in some[0]}
    table = pa.table({"entity_id": [ENTITY] * len(some), **columns})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def open_inference(schema: dict[str, Any]) -> Callable[[Sequence[Vector]], bytes]:
    """By the Open Inference Protocol: one tensor a feature."""
    types = {name: V2_TYPES[column["type"]] for name, column in schema["columns"].items()}

    def body(some: Sequence[Vector]) -> bytes:
        shape = [len(some), 1]
        inputs = [
            {"name": name, "shape": shape, "datatype": kind, "data": [vector[name] for vector in some]}
            for name, kind in types.items()
        ]
        return _json({"inputs": inputs})

    return body


def packed(schema: dict[str, Any]) -> Callable[[Sequence[Vector]], bytes]:
    """By the Open Inference Protocol in two tensors: all numbers in one, all text in the other."""
    numbers, texts = split(schema)

    def body(some: Sequence[Vector]) -> bytes:
        inputs = [
            {
                "name": name,
                "shape": [len(some), len(features)],
                "datatype": kind,
                "data": [vector[feature] for vector in some for feature in features],
            }
            for name, kind, features in (("numbers", "FP64", numbers), ("texts", "BYTES", texts))
        ]
        return _json({"inputs": inputs})

    return body


def split(schema: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the features that are numbers, and of those that are text."""
    texts = [name for name, column in schema["columns"].items() if column["type"] == "category"]
    return [name for name in schema["columns"] if name not in texts], texts


def mlflow(some: Sequence[Vector]) -> bytes:
    """As MLflow's scoring server reads a data frame."""
    names = list(some[0])
    return _json({"dataframe_split": {"columns": names, "data": [[vector[name] for name in names] for vector in some]}})


def groups(kept: Sequence[Vector], rows: int, count: int) -> list[list[Vector]]:
    """Batches of so many rows, each with other vectors as far as there are some."""
    return [[kept[(at * rows + number) % len(kept)] for number in range(rows)] for at in range(count)]


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
