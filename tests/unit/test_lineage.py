"""Fingerprints: equal for equal rows, however they arrive, and different for everything else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from mage_platform.training.lineage import RowsFingerprint

ROWS: dict[str, list[Any]] = {
    "_entity_id": [b"a" * 16, b"b" * 16, b"c" * 16],
    "_label": ["1", "0", "1"],
    "carrier": ["AA", None, "Zürich"],
    "rain": [0.5, None, -1.0],
}


def _fingerprint(table: pa.Table, part: str = "train", *cuts: int) -> str:
    fingerprint = RowsFingerprint()
    bounds = [0, *cuts, len(table)]
    for start, end in pairwise(bounds):
        fingerprint.add(part, table.slice(start, end - start))
    return fingerprint.hexdigest()


def _table(**changes: list[Any]) -> pa.Table:
    return pa.table({**ROWS, **changes})


def test_batches_offsets_and_what_lies_under_a_null_do_not_matter() -> None:
    whole = _fingerprint(_table())
    assert whole == _fingerprint(_table())
    chunked = pa.concat_tables([_table().slice(0, 1), _table().slice(1)])
    assert whole == _fingerprint(chunked)
    # the same rows out of the middle of a longer table
    longer = pa.concat_tables([_table(), _table(), _table()]).combine_chunks().slice(3, 3)
    assert whole == _fingerprint(longer)
    hidden = pa.array([0.5, 99.0, -1.0], mask=pa.array([False, True, False]).to_numpy(zero_copy_only=False))
    assert whole == _fingerprint(_table().set_column(3, "rain", hidden))


@pytest.mark.parametrize(
    "changes",
    [
        {"_label": ["1", "1", "1"]},
        {"carrier": ["AA", "", "Zürich"]},
        {"carrier": ["A", None, "AZürich"]},
        {"rain": [0.5, 0.0, -1.0]},
        {"rain": [0.5, -1.0, None]},
        {"_entity_id": [b"a" * 16, b"c" * 16, b"b" * 16]},
    ],
)
def test_another_value_a_gap_or_another_order_is_another_fingerprint(changes: dict[str, list[Any]]) -> None:
    assert _fingerprint(_table(**changes)) != _fingerprint(_table())


def test_rows_of_another_part_are_another_training() -> None:
    assert _fingerprint(_table(), "train") != _fingerprint(_table(), "test")
