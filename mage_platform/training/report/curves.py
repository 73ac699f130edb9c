"""What held-out rows show beyond metrics: gain, confusion, residuals, and how sure a calibration is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mage_platform.contracts.evaluation import Interval
from mage_platform.contracts.report import Confusion, GainPoint, ResidualBin, ResidualPoint, Residuals
from mage_platform.training.evaluation import equal_bins
from mage_platform.training.metrics import Floats, Scored

GAIN_STEPS = 50
RESIDUAL_POINTS = 400
UNKNOWN_CLASS = "(unknown to the model)"
_Z = 1.959963984540054
"""97.5 % point of the standard normal distribution."""


def found_share(scored: Scored, looked_at: Floats) -> Floats:
    """Share of the positives among a share of the rows, those with the highest predictions first.

    Args:
        scored: Of a binary target, with at least one positive row.
        looked_at: Shares of the rows, from 0 to 1.

    Returns:
        Of the shape of `looked_at`. Among rows of equal prediction it is the mean over all their orders.

    Source:
        Cumulative gains chart: Witten, Frank and Hall, Data Mining, 3rd ed. 2011, sec. 5.7.
    """
    _, ends = scored.ranks
    found = np.r_[0.0, np.cumsum(scored.ranked_truth)[ends]]
    seen = np.r_[0.0, ends + 1]
    return np.asarray(np.interp(looked_at * len(scored), seen, found) / found[-1], np.float64)


def gain_curve(candidate: Scored, naive: Scored) -> list[GainPoint]:
    """Gain of candidate and naive baseline at every fiftieth of the rows."""
    if not candidate.truth.any():
        return []
    shares = np.linspace(0, 1, GAIN_STEPS + 1)
    found = np.column_stack([shares, found_share(candidate, shares), found_share(naive, shares)]).clip(0, 1)
    return [GainPoint(looked_at=at, candidate=ours, naive=theirs) for at, ours, theirs in found.tolist()]


def confusion(scored: Scored) -> Confusion:
    """Rows by true and by predicted class."""
    classes = list(scored.classes)
    truth, predicted = scored.truth.astype(np.intp), scored.predicted.argmax(axis=1)
    counts = np.zeros((len(classes) + 1, len(classes)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    known = counts if counts[-1].any() else counts[:-1]
    return Confusion(true=[*classes, UNKNOWN_CLASS][: len(known)], predicted=classes, rows=known.tolist())


def residuals(scored: Scored) -> Residuals:
    """Residuals by bins of the prediction, and those of some single rows."""
    residual = scored.truth - scored.predicted
    bins = []
    for part in equal_bins(scored.predicted):
        low, median, high = np.quantile(residual[part], [0.1, 0.5, 0.9]).tolist()
        predicted = float(scored.predicted[part].mean())
        bins.append(ResidualBin(rows=len(part), predicted=predicted, low=low, median=median, high=high))
    some = np.unique(np.linspace(0, len(scored) - 1, min(len(scored), RESIDUAL_POINTS)).round().astype(np.intp))
    points = zip(scored.predicted[some].tolist(), residual[some].tolist(), strict=True)
    return Residuals(bins=bins, points=[ResidualPoint(predicted=at, residual=each) for at, each in points])


def observed_intervals(scored: Scored) -> list[Interval]:
    """95 % interval of the mean of what happened in each calibration bin; empty for several classes.

    Source:
        Of a share Wilson's score interval: Wilson, J. Am. Stat. Assoc. 22(158), 1927. Of a number the mean and 1.96
        standard errors.
    """
    if scored.kind == "multiclass":
        return []
    interval = wilson if scored.kind == "binary" else mean_interval
    return [interval(scored.truth[part]) for part in equal_bins(scored.predicted)]


def wilson(outcomes: npt.NDArray[np.float64]) -> Interval:
    """Of the share of ones.

    Args:
        outcomes: Zeros and ones, at least one.
    """
    rows, share = len(outcomes), float(outcomes.mean())
    middle = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    half = _Z / (1 + _Z**2 / rows) * (share * (1 - share) / rows + _Z**2 / (4 * rows**2)) ** 0.5
    return Interval(low=max(0.0, middle - half), high=min(1.0, middle + half))


def mean_interval(outcomes: npt.NDArray[np.float64]) -> Interval:
    """Of the mean; a single outcome stands for itself."""
    mean = float(outcomes.mean())
    half = _Z * float(outcomes.std(ddof=1)) / len(outcomes) ** 0.5 if len(outcomes) > 1 else 0.0
    return Interval(low=mean - half, high=mean + half)
