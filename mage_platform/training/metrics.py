"""How good predictions are: the metrics of each kind of target, over rows that may count more than once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mage_platform.contracts import BinaryMetrics, MulticlassMetrics, RegressionMetrics, TargetKind
from mage_platform.contracts.metrics import METRICS, Metric, Metrics

Floats = npt.NDArray[np.float64]
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Scored:
    """What one way to predict says of some rows, and what happened.

    Args:
        kind: Of the target.
        truth: Shape (rows,): 0 or 1, the index of the class, or the number.
        predicted: Shape (rows,): the probability of 1, or the number; of several classes shape (rows, classes).
        classes: Names of several classes, in the order of their indices; empty otherwise.
    """

    kind: TargetKind
    truth: npt.NDArray[np.float64]
    predicted: Floats
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Scored:
        """Some of the rows."""
        return Scored(self.kind, self.truth[rows], self.predicted[rows], self.classes)

    def values(self, weights: Floats | None = None) -> dict[Metric, float]:
        """Every metric of the kind; NaN where one is not defined (the AUC of one class).

        Args:
            weights: How often each row counts, shape (rows,); None: once each.

        Source:
            AUC with ties at half (the Mann-Whitney statistic), average precision by the step rule, log loss in nats
            with probabilities kept one float64 epsilon away from 0 and 1: as scikit-learn defines them.
        """
        weights = np.ones(len(self)) if weights is None else weights
        return {metric: _FORMULAS[metric](self, weights) for metric in METRICS[self.kind]}

    @cached_property
    def losses(self) -> Floats:
        """Negative log likelihood of what happened, for each row."""
        likely = self.predicted
        if self.kind == "binary":
            likely = np.where(self.truth == 1, self.predicted, 1 - self.predicted)
        else:
            total = self.predicted.sum(axis=1)
            likely = self.predicted[np.arange(len(self)), self.truth.astype(np.intp)] / np.where(total > 0, total, 1)
        losses: Floats = -np.log(np.clip(likely, EPSILON, 1 - EPSILON))
        return losses

    @cached_property
    def ranks(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows by falling score, and where each group of equal scores begins among them."""
        order = np.argsort(-self.predicted, kind="stable")
        score = self.predicted[order]
        starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]]) if len(score) else np.array([], np.intp)
        return order, starts

    @cached_property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the true one."""
        hits: npt.NDArray[np.bool_] = self.predicted.argmax(axis=1) == self.truth
        return hits


def metrics_of(scored: Scored) -> Metrics:
    """The metrics as a contract. Both classes of a binary target must occur."""
    values = scored.values()
    if scored.kind == "binary":
        return BinaryMetrics(**values, rows=len(scored), positive_share=float(scored.truth.mean()))
    if scored.kind == "regression":
        return RegressionMetrics(**values, rows=len(scored), mean=float(scored.truth.mean()))
    counts = np.bincount(scored.truth.astype(np.intp), minlength=len(scored.classes))
    shares = {name: count / len(scored) for name, count in zip(scored.classes, counts.tolist(), strict=True) if count}
    return MulticlassMetrics(**values, rows=len(scored), class_shares=shares)


def _positives_and_negatives(scored: Scored, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of each class in each group of equal scores, by falling score."""
    order, starts = scored.ranks
    truth, weight = scored.truth[order], weights[order]
    return np.add.reduceat(weight * truth, starts), np.add.reduceat(weight * (1 - truth), starts)


def _auc(scored: Scored, weights: Floats) -> float:
    positives, negatives = _positives_and_negatives(scored, weights)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return float("nan")
    above = np.cumsum(positives) - positives / 2  # a tie counts as half
    return float((negatives * above).sum() / pairs)


def _average_precision(scored: Scored, weights: Floats) -> float:
    positives, negatives = _positives_and_negatives(scored, weights)
    if positives.sum() == 0:
        return float("nan")
    found = np.cumsum(positives)
    seen = found + np.cumsum(negatives)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    return float((precision * positives).sum() / positives.sum())


def _mean(values: Floats | npt.NDArray[np.bool_], weights: Floats) -> float:
    return float((values * weights).sum() / weights.sum())


def _log_loss(scored: Scored, weights: Floats) -> float:
    return _mean(scored.losses, weights)


def _accuracy(scored: Scored, weights: Floats) -> float:
    return _mean(scored.hits, weights)


def _balanced_accuracy(scored: Scored, weights: Floats) -> float:
    truth = scored.truth.astype(np.intp)
    rows = np.bincount(truth, weights, minlength=len(scored.classes))
    found = np.bincount(truth, weights * scored.hits, minlength=len(scored.classes))
    present = rows > 0
    return float((found[present] / rows[present]).mean())


def _rmse(scored: Scored, weights: Floats) -> float:
    return float(np.sqrt(_mean((scored.predicted - scored.truth) ** 2, weights)))


def _mae(scored: Scored, weights: Floats) -> float:
    return _mean(np.abs(scored.predicted - scored.truth), weights)


def _r2(scored: Scored, weights: Floats) -> float:
    spread = _mean((scored.truth - _mean(scored.truth, weights)) ** 2, weights)
    return float("nan") if spread == 0 else 1 - _mean((scored.predicted - scored.truth) ** 2, weights) / spread


_FORMULAS: dict[Metric, Callable[[Scored, Floats], float]] = {
    "auc": _auc,
    "log_loss": _log_loss,
    "average_precision": _average_precision,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
}
