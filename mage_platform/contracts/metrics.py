"""How well predictions fit what happened, for each kind of target, and which way of each metric is better."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mage_platform.contracts.strict import Contract

TargetKind = Literal["binary", "multiclass", "regression"]
Metric = Literal[
    "auc", "log_loss", "average_precision", "accuracy", "balanced_accuracy", "rmse", "mae", "r2"
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]


class BinaryMetrics(Contract):
    """How well probabilities of a binary target fit what happened, on one set of rows."""

    kind: Literal["binary"] = "binary"
    auc: Share
    """Area under the ROC curve, of the probabilities (never of hard labels)."""
    log_loss: Annotated[float, Field(ge=0)]
    """Mean negative log likelihood, natural logarithm."""
    average_precision: Share
    """Area under the precision-recall curve by the step rule."""
    rows: Annotated[int, Field(ge=1)]
    positive_share: Share


class MulticlassMetrics(Contract):
    """How well the probabilities of several classes fit what happened, on one set of rows."""

    kind: Literal["multiclass"] = "multiclass"
    log_loss: Annotated[float, Field(ge=0)]
    """Mean negative log likelihood of the true class, natural logarithm."""
    accuracy: Share
    """Share of rows whose most probable class is the true one."""
    balanced_accuracy: Share
    """Mean over the classes that occur of the share of their rows that are found."""
    rows: Annotated[int, Field(ge=1)]
    class_shares: dict[str, float]
    """Share of the rows of each class that occurs."""


class RegressionMetrics(Contract):
    """How well predicted numbers fit what happened, on one set of rows; in units of the target."""

    kind: Literal["regression"] = "regression"
    rmse: Annotated[float, Field(ge=0)]
    """Square root of the mean squared error."""
    mae: Annotated[float, Field(ge=0)]
    """Mean absolute error."""
    r2: float
    """Share of the variance explained: 1 is perfect, 0 is what the mean of these rows would reach."""
    rows: Annotated[int, Field(ge=1)]
    mean: float
    """Mean of the target."""


Metrics = Annotated[BinaryMetrics | MulticlassMetrics | RegressionMetrics, Field(discriminator="kind")]
"""The metrics of one kind of target."""

METRICS: dict[TargetKind, tuple[Metric, ...]] = {
    "binary": ("auc", "log_loss", "average_precision"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""What can be asked of each kind of target; the first is what decides unless a use case says otherwise."""
LESS_IS_BETTER = frozenset({"log_loss", "rmse", "mae"})
METRIC_TITLES: dict[str, str] = {
    "auc": "AUC",
    "log_loss": "log loss",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
"""As people write them."""


def gain(metric: Metric, ours: float, theirs: float) -> float:
    """By how much one value is better than another: positive when it is, whichever way the metric points.

    >>> gain("auc", 0.75, 0.5)
    0.25
    >>> gain("rmse", 5.0, 4.0)
    -1.0
    """
    return theirs - ours if metric in LESS_IS_BETTER else ours - theirs
