"""How well one column predicts the target all by itself: near perfection is no luck but a leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mage_platform.contracts import TargetKind

Floats = npt.NDArray[np.float64]
SUSPECT = 0.99
"""A column that reaches this alone is left out."""
_BINS, _ROWS_A_BIN, _MOST_ROWS, _FEWEST = 100, 20, 200_000, 5


def alone(column: pd.Series[Any], truth: pd.Series[Any], kind: TargetKind) -> float:
    """What one column reaches alone: AUC (binary), accuracy (multiclass), or R² of the ranks (regression).

    Each half of the rows is predicted by the mean of the same level (of numbers: of the same hundredth) in the other
    half, so that a level of few rows does not predict itself. Numbers count by their order as well.

    Args:
        column: A feature; missing is a level of its own.
        truth: The target of the same rows: 0 and 1, text, or numbers. Missing is left out.
        kind: Of the target.
    """
    known = truth.notna().to_numpy()
    column, truth = column[known], truth[known]
    if len(truth) > _MOST_ROWS:
        places = np.random.default_rng(0).choice(len(truth), _MOST_ROWS, replace=False)
        column, truth = column.iloc[places], truth.iloc[places]
    if len(truth) < 2 * _FEWEST:
        return 0.0
    levels = _levels(column)
    if kind == "regression":
        ranks = truth.astype("float64").rank().to_numpy()
        predicted = _crosswise(levels, ranks[:, None])[:, 0]
        return 1.0 - float(((ranks - predicted) ** 2).sum() / max(((ranks - ranks.mean()) ** 2).sum(), 1e-12))
    codes, classes = pd.factorize(truth.map(str), sort=True)
    if len(classes) < 2 or (np.bincount(codes).min() < _FEWEST and kind == "binary"):
        return 0.0
    predicted = _crosswise(levels, np.eye(len(classes))[codes])
    if kind == "multiclass":
        return float((predicted.argmax(axis=1) == codes).mean())
    reached = _auc(predicted[:, 1], codes)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.notna().all():
        straight = _auc(column.to_numpy("float64"), codes)
        reached = max(reached, straight, 1 - straight)
    return reached


def is_suspect(reached: float, truth: pd.Series[Any], kind: TargetKind) -> bool:
    """Whether what a column reaches alone is too good to be true; of classes that are nearly one, nothing is."""
    if kind == "multiclass" and float(truth.value_counts(normalize=True).max()) > 0.95:
        return False
    return reached >= SUSPECT


def _levels(column: pd.Series[Any]) -> npt.NDArray[np.intp]:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and column.nunique() > _BINS:
        bins = max(2, min(_BINS, len(column) // _ROWS_A_BIN))
        return pd.qcut(column.astype("float64"), bins, labels=False, duplicates="drop").fillna(-1).to_numpy(np.intp) + 1
    return pd.factorize(column.map(str, na_action="ignore"))[0].astype(np.intp) + 1


def _crosswise(levels: npt.NDArray[np.intp], values: Floats) -> Floats:
    """The mean of each row's level, taken over the other half of the rows; a level not there gives the overall mean."""
    half = np.random.default_rng(0).permutation(len(levels)) % 2
    predicted = np.empty_like(values)
    for fold in (0, 1):
        theirs, mine = half != fold, half == fold
        overall = values[theirs].mean(axis=0)
        rows = np.bincount(levels[theirs], minlength=int(levels.max()) + 1)
        sums = np.stack([np.bincount(levels[theirs], v, minlength=len(rows)) for v in values[theirs].T], axis=1)
        means = (sums + overall) / (rows + 1)[:, None]
        predicted[mine] = means[levels[mine]]
    return predicted


def _auc(score: Floats, truth: npt.NDArray[np.intp]) -> float:
    """Mann-Whitney: the share of pairs in the right order, ties counted half."""
    ranks = pd.Series(score).rank().to_numpy()
    positive = int(truth.sum())
    return float((ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))
