"""The naive baseline, which every model must beat: what rows of the same group did before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mage_platform.contracts import TargetKind
from mage_platform.training.metrics import Floats

# Value of a group = (sum of its rows + WEIGHT · overall) / (rows + WEIGHT): a group of few rows stays near the whole.
# Additive smoothing; Micci-Barreca, SIGKDD Explorations 3(1), 2001, eq. 3 with a fixed weight.
GROUP_WEIGHT = 20.0
Places = npt.NDArray[np.int64]


def naive_predictions(
    kind: TargetKind, labels: Floats, classes: int, train: pa.Table, test: pa.Table, columns: list[str]
) -> Floats:
    """The smoothed mean of the training rows of the same group: rate of the positive class, of each class, or mean.

    Args:
        kind: Of the target.
        labels: Of the training rows: 0 or 1, the index of the class, or the number.
        classes: How many classes a multiclass target has.
        train: The columns of the training rows.
        test: The columns of the rows to predict.
        columns: What makes a group; none predicts the overall value, as does a group never seen.

    Returns:
        Shape (rows of test,); of several classes shape (rows of test, classes).
    """
    values = np.eye(classes)[labels.astype(np.intp)] if kind == "multiclass" else labels[:, None]
    overall = values.mean(axis=0)
    if columns:
        groups, known = _groups(train, test, columns)
        count = int(groups.max()) + 1
        rows = np.bincount(groups, minlength=count)
        sums = np.stack([np.bincount(groups, value, minlength=count) for value in values.T], axis=1)
        smoothed = (sums + GROUP_WEIGHT * overall) / (rows + GROUP_WEIGHT)[:, None]
        predicted = np.where((known >= 0)[:, None], smoothed[known], overall)
    else:
        predicted = np.repeat(overall[None, :], len(test), axis=0)
    return predicted if kind == "multiclass" else predicted[:, 0]


def _groups(train: pa.Table, test: pa.Table, columns: list[str]) -> tuple[Places, Places]:
    """The group of each row, from 0; of the rows to predict -1 where no training row is of that group."""
    mine, theirs = np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    for column in columns:
        levels = pc.unique(train[column])
        mine, theirs = (
            np.where((before < 0) | (code < 0), -1, before * len(levels) + code)
            for before, code in ((mine, _codes(train[column], levels)), (theirs, _codes(test[column], levels)))
        )
        present, mine = np.unique(mine, return_inverse=True)
        places = np.clip(np.searchsorted(present, theirs), 0, len(present) - 1)
        theirs = np.where(present[places] == theirs, places, -1)
    return mine, theirs


def _codes(column: pa.ChunkedArray, levels: pa.Array) -> Places:
    codes: Places = pc.fill_null(pc.index_in(column, value_set=levels), -1).to_numpy().astype(np.int64)
    return codes
