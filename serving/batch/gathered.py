"""A batch while it is put together: encoded rows, what is wrong with which of them, and whose vectors are wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from mage_platform.contracts import BatchHead
from mage_platform.errors import FeaturesInvalid
from serving.batch.columns import Column, ColumnEncoder, Floats, RowFault, missing_column
from serving.encoding import Fault, VectorRefused
from serving.models import ServedModel
from serving.problems import MOST_FAULTS, BodyTooLarge, RequestInvalid

_canonical = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class BatchRefused(FeaturesInvalid):
    """A batch with faulty rows, of which the first thousand faults are listed.

    Args:
        faults: At least one.
        rows: How many rows are faulty; 0 where it is the batch as a whole.
        of: How many rows there are.
    """

    def __init__(self, faults: Sequence[Fault], rows: int, of: int) -> None:
        first = f"{faults[0].field} {faults[0].message}"
        whole = f"; nothing was scored, {rows} of {of} rows are faulty" if rows else "; nothing was scored"
        super().__init__(first + whole, field=faults[0].field)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Wanted:
    """A row that is to be predicted by its entity's newest vector."""

    row: int
    entity_id: UUID
    event_time: datetime | None = None
    overrides: Mapping[str, Any] | None = None
    """What replaces features of the stored vector."""


@dataclass
class Batch:
    """Encoded rows.

    Args:
        head: What holds for all of them.
        shape: Whether they came as rows or as columns; the answer does likewise.
        rows: One row of float64 each, as the model takes it.
        entity_ids: Of each row; None for one that is no UUID. None where none were sent.
        wanted: Rows whose vector is still to be looked up.
    """

    head: BatchHead
    shape: str
    rows: Floats
    entity_ids: list[str | None] | None
    wanted: list[Wanted] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    """The first thousand."""
    defaulted: int = 0
    """How many rows have the default vector of the use case."""
    refused: npt.NDArray[np.bool_] = field(init=False)
    """Which rows are faulty."""

    def __post_init__(self) -> None:
        self.refused = np.zeros(len(self.rows), np.bool_)

    def refuse(self, row: int, *faults: Fault) -> None:
        """Note a faulty row."""
        self.refused[row] = True
        self.faults += [(row, fault) for fault in faults[: MOST_FAULTS - len(self.faults)]]

    def refuse_all(self, column: Column) -> None:
        """Note the rows whose value of a column was refused."""
        self.refused[column.refused] = True
        self.faults += column.faults[: MOST_FAULTS - len(self.faults)]

    def hold(self) -> None:
        """Hold the batch against the caller's wish: refuse it for a faulty row, unless those are to be reported.

        Raises:
            BatchRefused: It has faulty rows, and they are not to be reported.
        """
        if self.faults and self.head.on_error == "refuse":
            self.faults.sort(key=lambda one: one[0])
            faulty = int(np.count_nonzero(self.refused))
            raise BatchRefused([fault for _, fault in self.faults], faulty, len(self.rows))


def too_many_rows(maximum: int) -> BodyTooLarge:
    """The refusal of a batch by its number of rows."""
    return BodyTooLarge(f"a batch holds at most {maximum} rows: send the rest in another one")


def entity_texts(sent: Sequence[Any], faults: list[RowFault], field_of: str) -> list[str | None]:
    """Entity ids as they stand in the answer.

    Args:
        sent: UUIDs as text.
        faults: What is no UUID is noted here, by row number.
        field_of: Path of the list.
    """
    if all(type(one) is str and _canonical(one) for one in sent):
        return list(sent)
    return [_entity_text(one, row, faults, field_of) for row, one in enumerate(sent)]


def _entity_text(sent: Any, row: int, faults: list[RowFault], field_of: str) -> str | None:
    try:
        if type(sent) is str:
            return str(UUID(sent))
    except ValueError:
        pass
    rule = "must be a UUID, such as 7cf06540-e6e0-54cb-8483-c525c4b50d97"
    faults.append((row, Fault(f"{field_of}.{row}", rule, sent)))
    return None


class Columns:
    """The columns of one batch, until all are there.

    Args:
        model: Whose features they are.
        encoder: Of its columns.
        region: Of the request.
    """

    def __init__(self, model: ServedModel, encoder: ColumnEncoder, region: str) -> None:
        self._model, self.encoder, self._region = model, encoder, region
        self._columns: dict[str, Column] = {}
        self.faults: list[Fault] = []
        """With columns as a whole."""

    def accepts(self, name: str) -> bool:
        """Whether the model has such a feature; notes a fault where it has not."""
        if name == self._model.version.region_feature:
            rule = "is the region, which the request names"
        elif name not in self.encoder.schema.columns:
            rule = "is not a feature of this model"
        elif name in self._columns:
            rule = "stands there twice"
        else:
            return True
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(f"columns.{name}", rule))
        return False

    def fault(self, fault: Fault) -> None:
        """Note that a column is of the wrong kind as a whole."""
        self.faults.append(fault)

    def add(self, name: str, column: Column) -> None:
        """Take a column."""
        self._columns[name] = column

    def batch(self, head: BatchHead, entity_ids: Sequence[Any] | None) -> Batch:
        """All of them, as rows.

        Raises:
            RequestInvalid: A column is missing, of another length, or none of this model's.
        """
        lengths = {name: len(column.values) for name, column in self._columns.items()}
        rows = next(iter(lengths.values()), 0)
        first = next(iter(lengths), "")
        if entity_ids is not None and lengths and len(entity_ids) != rows:
            rule = f"must be as many as the values of columns.{first}, which are {rows}"
            self.faults.append(Fault("entity_ids", rule, len(entity_ids)))
        for name, length in lengths.items():
            if length != rows:
                rule = f"must hold as many values as columns.{first}, which holds {rows}"
                self.faults.append(Fault(f"columns.{name}", rule, length))
        self._add_missing(rows)
        if not rows and not self.faults:
            self.faults.append(Fault("columns", "must hold at least one row"))
        if self.faults:
            raise RequestInvalid(self.faults)
        found: list[RowFault] = []
        texts = None if entity_ids is None else entity_texts(entity_ids, found, "entity_ids")
        batch = Batch(head, "columns", np.empty((rows, len(self._model.encoder.names))), texts)
        for row, fault in found:
            batch.refuse(row, fault)
        for place, name in enumerate(self._model.encoder.names):
            batch.rows[:, place] = self._columns[name].values
        for column in self._columns.values():
            batch.refuse_all(column)
        return batch

    def _add_missing(self, rows: int) -> None:
        for name, declared in self.encoder.schema.columns.items():
            if name == self._model.version.region_feature:
                code = self.encoder.code(name, self._region)
                values = None if code is None else np.full(rows, code)
            elif name not in self._columns:
                values = missing_column(declared, rows)
            else:
                continue
            if values is None:
                if not any(fault.field == f"columns.{name}" for fault in self.faults):
                    self.faults.append(Fault(f"columns.{name}", "is missing"))
            else:
                self._columns[name] = Column(values)


def of_entities(head: BatchHead, model: ServedModel, entity_ids: Sequence[Any]) -> Batch:
    """A batch whose vectors are all to be looked up.

    Raises:
        RequestInvalid: There are none.
    """
    if not entity_ids:
        raise RequestInvalid([Fault("entity_ids", "must hold at least one entity")])
    found: list[RowFault] = []
    texts = entity_texts(entity_ids, found, "entity_ids")
    batch = Batch(head, "columns", np.zeros((len(texts), len(model.encoder.names))), texts)
    for row, fault in found:
        batch.refuse(row, fault)
    batch.wanted = [Wanted(row, UUID(text)) for row, text in enumerate(texts) if text is not None]
    return batch


def refused_row(error: VectorRefused, row: int) -> list[Fault]:
    """The faults of a vector, named within its batch."""
    return [Fault(f"rows.{row}.{fault.field}", fault.message, fault.value) for fault in error.faults]
