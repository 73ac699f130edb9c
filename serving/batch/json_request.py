"""A batch in JSON: read in pieces, and each piece encoded before the next one is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mage_platform.contracts import BatchHead, PredictRow
from serving.batch.columns import Column, ColumnEncoder
from serving.batch.gathered import Batch, Columns, Wanted, of_entities, refused_row, too_many_rows
from serving.batch.json_pieces import Cursor
from serving.encoding import Fault, VectorRefused
from serving.models import ServedModel
from serving.problems import MOST_FAULTS, RequestInvalid, as_invalid_request
from serving.repeated_keys import repeated_in_rows

_ROWS: TypeAdapter[list[PredictRow]] = TypeAdapter(list[PredictRow])
_BULK = ("rows", "columns", "entity_ids")
_HEAD = ("use_case", "region", "on_error")


class JsonRequest:
    """A batch of rows or columns in JSON. `head` first, then `encode`.

    Args:
        body: The request.
        maximum_rows: Most rows.
    """

    def __init__(self, body: bytes, maximum_rows: int) -> None:
        self._maximum_rows = maximum_rows
        self._cursor = Cursor(body)
        self._members = self._cursor.members()
        self._head: dict[str, Any] = {}
        self._places: dict[str, int] = {}
        """Where the long fields begin that stand before the head."""
        self._batch: Batch | None = None
        self._columns: Columns | None = None
        self._entity_ids: list[Any] | None = None

    def head(self) -> BatchHead:
        """What holds for all rows. Reads up to the first long field, where use case and region stand before it.

        Raises:
            PlatformError: The request is none.
        """
        for key in self._members:
            self._note(key)
            if key in _HEAD:
                self._head[key] = self._cursor.scalar()
                continue
            self._places[key] = self._cursor.at
            if "use_case" in self._head and "region" in self._head:
                break
            self._skip()
        else:
            self._cursor.end()
        return self._checked_head()

    def encode(self, model: ServedModel, encoder: ColumnEncoder) -> Batch:
        """Everything else.

        Raises:
            PlatformError: The request is none, or has faulty rows and does not want them reported.
        """
        head = self._checked_head()
        end = self._cursor.at
        for key, place in self._places.items():
            self._cursor.at = place
            self._read(key, head, model, encoder)
            end = max(end, self._cursor.at)
        self._cursor.at = end
        for key in self._members:
            self._note(key)
            if key in _HEAD:
                self._head[key] = self._cursor.scalar()
            else:
                self._places[key] = self._cursor.at
                self._read(key, head, model, encoder)
        self._cursor.end()
        batch = self._whole(self._checked_head(), model)
        batch.hold()
        return batch

    def _checked_head(self) -> BatchHead:
        try:
            return BatchHead.model_validate(self._head)
        except ValidationError as error:
            raise as_invalid_request(error) from None

    def _note(self, key: str) -> None:
        if key in self._head or key in self._places:
            raise RequestInvalid([Fault(key, "stands there twice")])
        if key not in _HEAD and key not in _BULK:
            raise RequestInvalid([Fault(key, "is not a field of this request")])

    def _skip(self) -> None:
        if self._cursor.begins(b"["):
            self._cursor.skip_array()
        elif self._cursor.begins(b"{"):
            for _ in self._cursor.members():
                self._skip()
        else:
            self._cursor.scalar()

    def _read(self, key: str, head: BatchHead, model: ServedModel, encoder: ColumnEncoder) -> None:
        opening, kind = (b"{", "an object of lists") if key == "columns" else (b"[", "a list")
        if not self._cursor.begins(opening):
            if self._cursor.begins(b"n") and self._cursor.scalar() is None:
                return  # as if it had been left out
            raise RequestInvalid([Fault(key, f"must be {kind}")])
        if key == "rows":
            self._batch = self._read_rows(head, model)
        elif key == "columns":
            self._columns = self._read_columns(Columns(model, encoder, head.region))
        else:
            self._entity_ids = self._read_list()

    def _read_rows(self, head: BatchHead, model: ServedModel) -> Batch:
        encoded, width = bytearray(), len(model.encoder.names) * 8
        nothing = bytes(width)
        entity_ids: list[str | None] = []
        wanted: list[Wanted] = []
        faulty: list[tuple[int, list[Fault]]] = []
        for piece in self._cursor.rows(_parse_rows):
            for row in piece:
                number, vector = len(entity_ids), nothing
                if number >= self._maximum_rows:
                    raise too_many_rows(self._maximum_rows)
                if not isinstance(row, PredictRow):
                    faulty.append((number, _within(row, number)))
                    entity_ids.append(None)
                else:
                    entity_ids.append(str(row.entity_id))
                    if row.features is not None and row.overrides is not None:
                        faulty.append((number, [Fault(f"rows.{number}.overrides", "cannot stand beside `features`")]))
                    elif row.features is None:
                        wanted.append(Wanted(number, row.entity_id, row.event_time, row.overrides))
                    else:
                        try:
                            vector = model.row(row.features, head.region)
                        except VectorRefused as error:
                            faulty.append((number, refused_row(error, number)))
                encoded += vector
        if not entity_ids:
            raise RequestInvalid([Fault("rows", "must hold at least one row")])
        rows = np.frombuffer(encoded, np.float64).reshape(len(entity_ids), -1)
        batch = Batch(head, "rows", rows, entity_ids, wanted)
        for number, faults in faulty:
            batch.refuse(number, *faults)
        return batch

    def _read_columns(self, columns: Columns) -> Columns:
        for name in self._cursor.members():
            if not columns.accepts(name):
                self._skip()
            elif not self._cursor.begins(b"["):
                columns.fault(Fault(f"columns.{name}", "must be a list of values"))
                self._skip()
            else:
                columns.add(name, self._read_column(columns.encoder, name))
        return columns

    def _read_column(self, encoder: ColumnEncoder, name: str) -> Column:
        parts: list[Column] = []
        rows = 0
        for piece in self._cursor.values():
            if rows + len(piece) > self._maximum_rows:
                raise too_many_rows(self._maximum_rows)
            parts.append(encoder.from_values(name, piece, rows))
            rows += len(piece)
        return Column(
            np.concatenate([part.values for part in parts]) if parts else np.empty(0),
            [row for part in parts for row in part.refused],
            [fault for part in parts for fault in part.faults][:MOST_FAULTS],
        )

    def _read_list(self) -> list[Any]:
        found: list[Any] = []
        for piece in self._cursor.values():
            found += piece
            if len(found) > self._maximum_rows:
                raise too_many_rows(self._maximum_rows)
        return found

    def _whole(self, head: BatchHead, model: ServedModel) -> Batch:
        if self._batch is not None:
            for key, other in (("columns", self._columns), ("entity_ids", self._entity_ids)):
                if other is not None:
                    raise RequestInvalid([Fault(key, "must be left out beside rows")])
            self._batch.head = head
            return self._batch
        if self._columns is not None:
            return self._columns.batch(head, self._entity_ids)
        if self._entity_ids is not None:
            return of_entities(head, model, self._entity_ids)
        raise RequestInvalid([Fault("rows", "is missing; columns, or entity_ids alone, would do as well")])


def _parse_rows(text: bytes) -> list[PredictRow | list[Fault]]:
    """Rows, or what is wrong with them."""
    found: list[PredictRow | list[Fault]]
    try:
        rows = _ROWS.validate_json(text)
    except ValidationError as error:
        if error.errors(include_url=False, include_context=False)[0]["type"] == "json_invalid":
            raise
        found = [_one_row(item) for item in from_json(text)]
    else:
        found = list(rows)
        named = sum(len(row.model_fields_set) + len(row.features or ()) + len(row.overrides or ()) for row in rows)
        if text.count(b":") == named:
            return found
    return [twice or row for row, twice in zip(found, repeated_in_rows(text), strict=True)]


def _one_row(item: Any) -> PredictRow | list[Fault]:
    try:
        return PredictRow.model_validate(item)
    except ValidationError as error:
        problem = as_invalid_request(error)
        return list(problem.faults) if isinstance(problem, RequestInvalid) else []


def _within(faults: Iterable[Fault], number: int) -> list[Fault]:
    row = f"rows.{number}"
    return [
        Fault(row if fault.field == "body" else f"{row}.{fault.field}", fault.message, fault.value) for fault in faults
    ]
