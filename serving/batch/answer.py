"""The answer to a batch, written as the request was: rows for rows, columns for columns, or an Arrow stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from serving.batch.columns import Floats
from serving.batch.gathered import Batch
from serving.models import ServedModel
from serving.problems import echo

PIECE_ROWS = 2_048
"""Rows that are written at a time: none of the writers lets go of the interpreter before it is done."""


class Answer:
    """What is to be said of a scored batch.

    Args:
        model: Which answered.
        batch: What was asked.
        scores: One `Score` for each row; NaN for a faulty one.
        cached: How many rows came from the cache.

    Raises:
        ArithmeticError: A score is no prediction.
    """

    def __init__(self, model: ServedModel, batch: Batch, scores: Floats, cached: int) -> None:
        self._model, self._batch, self._scores, self._cached = model, batch, scores, cached
        meant = scores[:, 1:] if model.labels else scores[:, :1]
        wrong = np.flatnonzero(~np.isfinite(meant).all(axis=1) & ~batch.refused)
        if len(wrong):
            raise ArithmeticError(f"the MOJO answers {scores[wrong[0]].tolist()}, which is no prediction")

    def as_json(self) -> bytes:
        """`PredictBatchResponse` or `PredictColumnsResponse`."""
        parts = [b"{"]
        parts += self._rows() if self._batch.shape == "rows" else self._columns()
        fallback = self._model.version.region != self._batch.head.region
        parts.append(
            f',"model":{self._model.model_text},"fallback":{"true" if fallback else "false"},'
            f'"cached":{self._cached},"defaulted":{self._batch.defaulted},"faulty":{np.count_nonzero(self._batch.refused)},"errors":'.encode()
        )
        parts += [json.dumps(self._errors(), allow_nan=False).encode(), b"}"]
        return b"".join(parts)

    def as_arrow(self) -> bytes:
        """The same as an Arrow stream."""
        from serving.batch.arrow import write_table  # loaded with the first stream

        labels, batch = self._model.labels, self._batch
        columns: dict[str, tuple[str, Any]] = {}
        if batch.entity_ids is not None:
            columns["entity_id"] = "text", batch.entity_ids
        if labels:
            columns["prediction"] = "text", self._predicted()
            for place, label in enumerate(labels):
                columns[f"probability.{label}"] = "float", self._scores[:, 1 + place]
        else:
            columns["prediction"] = "float", self._scores[:, 0]
        fallback = self._model.version.region != batch.head.region
        facts = {
            "model": self._model.model_text,
            "fallback": json.dumps(fallback),
            "cached": str(self._cached),
            "defaulted": str(self._batch.defaulted),
            "faulty": str(np.count_nonzero(batch.refused)),
            "errors": json.dumps(self._errors(), allow_nan=False),
        }
        return write_table(columns, facts)

    def _errors(self) -> list[dict[str, Any]]:
        return [
            {"row": row, "field": fault.field, "message": fault.message, "value": echo(fault.value)}
            for row, fault in sorted(self._batch.faults, key=lambda one: one[0])
        ]

    def _predicted(self) -> list[str | None]:
        """The class of each row."""
        labels = np.array([*self._model.labels, None], object)
        return list(labels[np.where(self._batch.refused, len(labels) - 1, self._scores[:, 0]).astype(np.int64)])

    def _rows(self) -> Iterator[bytes]:
        text, ids = self._model.outcome.text, self._batch.entity_ids or []
        yield b'"rows":['
        for begin in range(0, len(ids), PIECE_ROWS):
            end = begin + PIECE_ROWS
            scores, refused = self._scores[begin:end].tolist(), self._batch.refused[begin:end].tolist()
            rows = [
                f'{{"entity_id":{_quoted(entity_id)},"prediction":null,"probabilities":null}}'
                if faulty
                else f'{{"entity_id":"{entity_id}",{text(score)}}}'
                for entity_id, score, faulty in zip(ids[begin:end], scores, refused, strict=True)
            ]
            yield (("," if begin else "") + ",".join(rows)).encode()
        yield b"]"

    def _columns(self) -> Iterator[bytes]:
        yield b'"entity_ids":'
        yield from _list(self._batch.entity_ids)
        yield b',"predictions":'
        yield from _list(self._predicted() if self._model.labels else self._scores[:, 0])
        yield b',"probabilities":'
        if not self._model.labels:
            yield b"null"
            return
        for place, label in enumerate(self._model.labels):
            yield f"{',' if place else '{'}{json.dumps(label)}:".encode()
            yield from _list(self._scores[:, 1 + place])
        yield b"}"


def _list(values: Sequence[Any] | Floats | None) -> Iterator[bytes]:
    """A JSON list, written in pieces; NaN becomes null, and every other number reads back as the same float64."""
    if values is None:
        yield b"null"
        return
    yield b"["
    for begin in range(0, len(values), PIECE_ROWS):
        piece = values[begin : begin + PIECE_ROWS]
        written = to_json(piece.tolist() if isinstance(piece, np.ndarray) else piece, inf_nan_mode="null")
        yield (b"," if begin else b"") + written[1:-1]
    yield b"]"


def _quoted(text: str | None) -> str:
    return "null" if text is None else f'"{text}"'
