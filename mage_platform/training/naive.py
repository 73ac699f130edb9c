"""The naive baseline, which every model must beat: what rows of the same group did before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mage_platform.contracts import TargetKind
from mage_platform.training.metrics import Floats

# Value of a group = (sum of its rows + WEIGHT · overall) / (rows + WEIGHT): a group of few rows stays near the whole.
# Additive smoothing; Micci-Barreca, SIGKDD Explorations 3(1), 2001, eq. 3 with a fixed weight.
GROUP_WEIGHT = 20.0


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
    if not columns:
        predicted = np.repeat(overall[None, :], len(test), axis=0)
    else:
        groups = {key: place for place, key in enumerate(dict.fromkeys(_keys(train, columns)))}
        places = np.array([groups[key] for key in _keys(train, columns)])
        rows = np.bincount(places, minlength=len(groups))
        sums = np.stack([np.bincount(places, value, minlength=len(groups)) for value in values.T], axis=1)
        smoothed = (sums + GROUP_WEIGHT * overall) / (rows + GROUP_WEIGHT)[:, None]
        known = np.array([groups.get(key, -1) for key in _keys(test, columns)], dtype=np.intp)
        predicted = np.where((known >= 0)[:, None], smoothed[known], overall)
    return predicted if kind == "multiclass" else predicted[:, 0]


def _keys(table: pa.Table, columns: list[str]) -> list[tuple[object, ...]]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))
