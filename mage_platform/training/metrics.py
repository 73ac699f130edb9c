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
Counts = npt.NDArray[np.int32]
"""How often rows count. Adding up whole numbers is exact, and six times as fast as adding up floats."""
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

    def values(self, weights: Counts | None = None) -> dict[Metric, float]:
        """Every metric of the kind; NaN where one is not defined (the AUC of one class).

        Args:
            weights: How often each row counts, shape (rows,); None: once each.

        Source:
            AUC with ties at half (the Mann-Whitney statistic), average precision by the step rule, log loss in nats
            with probabilities kept one float64 epsilon away from 0 and 1: as scikit-learn defines them.
        """
        weighted = _Weighted(self, np.ones(len(self), np.int32) if weights is None else weights)
        return {metric: _FORMULAS[metric](weighted) for metric in METRICS[self.kind]}

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
        """Rows by falling score, and where each group of equal scores ends among them."""
        order = np.argsort(-self.predicted, kind="stable")
        score = self.predicted[order]
        return order, np.flatnonzero(np.r_[score[1:] != score[:-1], True]) if len(score) else np.array([], np.intp)

    @cached_property
    def ranked_truth(self) -> Counts:
        """What happened, 0 or 1, by falling score."""
        return self.truth[self.ranks[0]].astype(np.int32)

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


class _Weighted:
    """Scored rows that count more than once, or not at all."""

    def __init__(self, scored: Scored, weights: Counts) -> None:
        self.scored = scored
        self.weights = weights

    @cached_property
    def total(self) -> float:
        """Weight of all rows."""
        return float(self.weights.sum())

    @cached_property
    def ranked(self) -> Counts:
        """Weight of each row, by falling score."""
        return self.weights[self.scored.ranks[0]]

    @cached_property
    def ranked_positives(self) -> Counts:
        """The same, nothing for the negatives."""
        return self.ranked * self.scored.ranked_truth

    @cached_property
    def found(self) -> Floats:
        """Weight of the positives from the highest score down to the end of each group of equal scores."""
        return self._at_ends(self.ranked_positives)

    @cached_property
    def seen(self) -> Floats:
        """Weight of all rows down to there."""
        return self._at_ends(self.ranked)

    @cached_property
    def positives(self) -> Floats | Counts:
        """Weight of the positives in each group."""
        return self.ranked_positives if self._alone else np.diff(self.found, prepend=0.0)

    @cached_property
    def negatives(self) -> Floats | Counts:
        """Weight of the negatives in each group."""
        if self._alone:
            return self.ranked - self.ranked_positives
        return np.diff(self.seen - self.found, prepend=0.0)

    @property
    def _alone(self) -> bool:
        """Whether no two scores are equal, so that each row is a group."""
        return len(self.scored.ranks[1]) == len(self.scored)

    def _at_ends(self, counts: Counts) -> Floats:
        """Added up, from the highest score down to the end of each group of equal scores."""
        added = np.cumsum(counts, dtype=np.int32)
        return (added if self._alone else added[self.scored.ranks[1]]).astype(np.float64)

    def mean(self, values: Floats | npt.NDArray[np.bool_]) -> float:
        """Of one value a row."""
        return float((values * self.weights).sum() / self.total)


def _auc(rows: _Weighted) -> float:
    found, seen = rows.found, rows.seen
    if not len(found) or found[-1] == 0 or found[-1] == seen[-1]:
        return float("nan")
    above = found - rows.positives / 2  # a tie counts as half
    return float((rows.negatives * above).sum() / (found[-1] * (seen[-1] - found[-1])))


def _average_precision(rows: _Weighted) -> float:
    found, seen = rows.found, rows.seen
    if not len(found) or found[-1] == 0:
        return float("nan")
    precision = np.zeros_like(seen)
    first = int(np.searchsorted(seen, 0.0, side="right"))  # rows before it are in none of the draws
    np.divide(found[first:], seen[first:], out=precision[first:])
    return float((precision * rows.positives).sum() / found[-1])


def _log_loss(rows: _Weighted) -> float:
    return rows.mean(rows.scored.losses)


def _accuracy(rows: _Weighted) -> float:
    return rows.mean(rows.scored.hits)


def _balanced_accuracy(rows: _Weighted) -> float:
    scored, classes = rows.scored, len(rows.scored.classes)
    truth = scored.truth.astype(np.intp)
    weight = np.bincount(truth, rows.weights, minlength=classes)
    found = np.bincount(truth, rows.weights * scored.hits, minlength=classes)
    present = weight > 0
    return float((found[present] / weight[present]).mean())


def _rmse(rows: _Weighted) -> float:
    return float(np.sqrt(rows.mean((rows.scored.predicted - rows.scored.truth) ** 2)))


def _mae(rows: _Weighted) -> float:
    return rows.mean(np.abs(rows.scored.predicted - rows.scored.truth))


def _r2(rows: _Weighted) -> float:
    truth = rows.scored.truth
    spread = rows.mean((truth - rows.mean(truth)) ** 2)
    return float("nan") if spread == 0 else 1 - rows.mean((rows.scored.predicted - truth) ** 2) / spread


_FORMULAS: dict[Metric, Callable[[_Weighted], float]] = {
    "auc": _auc,
    "log_loss": _log_loss,
    "average_precision": _average_precision,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
}
