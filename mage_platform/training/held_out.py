"""The held-out rows of a training, with what the model and the naive baseline say of them; kept for the decision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mage_platform.contracts import TargetKind
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, LABEL, REGION
from mage_platform.training.metrics import Floats, Scored

CANDIDATE, NAIVE = "_candidate", "_naive"
_KIND, _CLASSES = b"target kind", b"classes"


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows.

    Args:
        table: `_entity_id` (16 bytes), `_event_time` (UTC), `_region`, `_label`, the features, and one column of lists
            for each way to predict.
        kind: Of the target.
        classes: Names of the classes in the order of the predictions; empty for a number.
    """

    table: pa.Table
    kind: TargetKind
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def moments(self) -> npt.NDArray[np.int64]:
        """Event times, microseconds since 1970 UTC."""
        moments: npt.NDArray[np.int64] = self.table[EVENT_TIME].cast(pa.int64()).to_numpy()
        return moments

    def scored(self, name: str) -> Scored:
        """One way to predict: `_candidate` or `_naive`."""
        flat = self.table[name].combine_chunks().flatten().to_numpy()
        values = flat.reshape(len(self), -1) if len(self) else flat.reshape(0, max(len(self.classes), 1))
        return self.with_predictions(values if self.kind == "multiclass" else values[:, 0])

    def with_predictions(self, predicted: Floats) -> Scored:
        """What another model says of the same rows, in their order."""
        return Scored(self.kind, truth_of(self.table[LABEL], self.kind, self.classes), predicted, self.classes)

    def of_region(self, region: str) -> HeldOut:
        """The rows of one region."""
        return HeldOut(self.table.filter(pc.equal(self.table[REGION], region)), self.kind, self.classes)

    def places_of(self, other: HeldOut) -> npt.NDArray[np.intp] | None:
        """Where the rows of `other` stand among these; None when one of them is not here."""
        places = {key: place for place, key in enumerate(self._keys())}
        found = [places.get(key, -1) for key in other._keys()]
        return None if -1 in found else np.array(found, np.intp)

    def _keys(self) -> list[tuple[bytes, int]]:
        return list(zip(self.table[ENTITY_ID].to_pylist(), self.moments.tolist(), strict=True))

    def write(self, path: Path) -> None:
        """Keep them in a parquet file."""
        notes = {_KIND: self.kind.encode(), _CLASSES: json.dumps(self.classes).encode()}
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.table.replace_schema_metadata(notes), path)

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """The rows that were kept in a file."""
        table = pq.read_table(path)
        notes = table.schema.metadata
        return cls(table, notes[_KIND].decode(), tuple(json.loads(notes[_CLASSES])))


def held_out(table: pa.Table, kind: TargetKind, classes: Sequence[str], predictions: Mapping[str, Floats]) -> HeldOut:
    """Put rows and predictions together.

    Args:
        table: The rows.
        kind: Of the target.
        classes: Names of several classes.
        predictions: Of each way to predict, shape (rows,) or (rows, classes).
    """
    for name, predicted in predictions.items():
        values = predicted.reshape(len(table), -1)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = table.append_column(name, lists)
    return HeldOut(table, kind, tuple(classes) if kind == "multiclass" else ())


def truth_of(labels: pa.ChunkedArray, kind: TargetKind, classes: Sequence[str]) -> Floats:
    """Labels as numbers: 0 or 1, the index of the class (one the model does not know comes last), or the number."""
    if kind != "multiclass":
        return np.asarray(labels.cast(pa.float64()).to_numpy(), dtype=np.float64)
    codes = pc.index_in(labels, value_set=pa.array(list(classes), pa.string()))
    return np.asarray(pc.fill_null(codes, len(classes)).to_numpy(), dtype=np.float64)
