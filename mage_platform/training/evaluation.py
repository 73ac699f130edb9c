"""How good probabilities are, and the naive baseline they must beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from mage_platform.contracts import BinaryMetrics

LABEL = "_label"
# Rate of a group = (late + WEIGHT · overall rate) / (rows + WEIGHT): a group of few rows stays near the whole.
# Additive smoothing; Micci-Barreca, SIGKDD Explorations 3(1), 2001, eq. 3 with a fixed weight.
GROUP_WEIGHT = 20.0

Floats = npt.NDArray[np.float64]


def labels_of(table: pa.Table) -> npt.NDArray[np.int8]:
    """The column `_label` ("0" or "1") as integers; shape (rows,)."""
    return np.asarray(table[LABEL].to_numpy(zero_copy_only=False) == "1", dtype=np.int8)


def binary_metrics(labels: npt.NDArray[np.int8], probabilities: Floats) -> BinaryMetrics:
    """Metrics of the probabilities of the positive class.

    Args:
        labels: 0 or 1, shape (rows,); both must occur.
        probabilities: In [0, 1], shape (rows,).

    Source:
        AUC and average precision as scikit-learn defines them; log loss in nats, with probabilities kept
        at least one float64 epsilon away from 0 and 1.
    """
    return BinaryMetrics(
        auc=float(roc_auc_score(labels, probabilities)),
        log_loss=float(log_loss(labels, probabilities, labels=[0, 1])),
        average_precision=float(average_precision_score(labels, probabilities)),
        rows=len(labels),
        positive_share=float(labels.mean()),
    )


def naive_probabilities(train: pa.Table, test: pa.Table, columns: list[str]) -> Floats:
    """The naive baseline: the rate of the positive class among training rows of the same group.

    Args:
        train: Rows the rates come from.
        test: Rows to predict.
        columns: What makes a group; none predicts the overall rate. A group never seen gets the overall rate.

    Returns:
        Probabilities, shape (rows of test,).
    """
    labels = labels_of(train)
    overall = float(labels.mean())
    if not columns:
        return np.full(len(test), overall)
    seen: dict[tuple[object, ...], tuple[int, int]] = {}
    for key, label in zip(_keys(train, columns), labels.tolist(), strict=True):
        rows, positives = seen.get(key, (0, 0))
        seen[key] = (rows + 1, positives + label)
    rates = {
        key: (positives + GROUP_WEIGHT * overall) / (rows + GROUP_WEIGHT) for key, (rows, positives) in seen.items()
    }
    return np.array([rates.get(key, overall) for key in _keys(test, columns)])


def _keys(table: pa.Table, columns: list[str]) -> list[tuple[object, ...]]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))
