"""How sure a comparison on held-out rows is: paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mage_platform.contracts.evaluation import Compared, Evaluated, Interval
from mage_platform.contracts.metrics import Metric, gain
from mage_platform.training.metrics import Counts, Floats, Scored, metrics_of

RESAMPLES = 500
FEWEST_DAYS = 20
_LEVELS = (2.5, 97.5)


@dataclass(frozen=True)
class Resamples:
    """How often each held-out row counts in each resample.

    Args:
        unit: `days` or `rows`: what is drawn with replacement.
        members: For each row the number of its unit, from 0.
        units: How many units there are.
        seed: Of the draws.

    Source:
        Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13. Rows of one day
        share weather and disturbances, so days are drawn as a whole: the cluster bootstrap of Field and Welsh,
        J. R. Stat. Soc. B 69(3), 2007. The same draws for every way to predict make the comparisons paired.
    """

    unit: str
    members: npt.NDArray[np.intp]
    units: int
    seed: int
    count: int = RESAMPLES

    @classmethod
    def of(cls, moments: npt.NDArray[np.int64], seed: int) -> Resamples:
        """Draw days where the rows cover at least twenty, else rows.

        Args:
            moments: Event time of each row, microseconds since 1970 UTC.
            seed: Of the draws.
        """
        days, members = np.unique(moments // 86_400_000_000, return_inverse=True)
        if len(days) >= FEWEST_DAYS:
            return cls("days", members.astype(np.intp), len(days), seed)
        return cls("rows", np.arange(len(moments)), len(moments), seed)

    def weights(self) -> Iterator[Counts]:
        """One array a resample, shape (rows,); the same each time."""
        random = np.random.default_rng(self.seed)
        share = np.full(self.units, 1 / self.units)
        for _ in range(self.count):
            yield random.multinomial(self.units, share).astype(np.int32)[self.members]


@dataclass(frozen=True)
class Resampled:
    """Every metric of one way to predict, on the held-out rows and on each resample."""

    scored: Scored
    values: dict[Metric, Floats]

    @classmethod
    def of(cls, scored: Scored, resamples: Resamples) -> Resampled:
        """Compute them."""
        rows = [scored.values(weight) for weight in resamples.weights()]
        return cls(scored, {metric: np.array([row[metric] for row in rows]) for metric in rows[0]})

    def evaluated(self) -> Evaluated:
        """The metrics with their intervals."""
        return Evaluated(
            metrics=metrics_of(self.scored),
            intervals={
                metric: interval
                for metric, values in self.values.items()
                if (interval := _interval(values)) is not None
            },
        )

    def against(self, other: Resampled, metric: Metric) -> Compared:
        """Compare with another way to predict the same rows."""
        ours, theirs = self.scored.values()[metric], other.scored.values()[metric]
        sign = 1.0 if gain(metric, 1.0, 0.0) > 0 else -1.0
        gains = sign * (self.values[metric] - other.values[metric])
        gains = gains[np.isfinite(gains)]
        better = float((gains > 0).mean()) if len(gains) else 0.0
        return Compared(gain=gain(metric, ours, theirs), interval=_interval(gains), confidence=better)


def _interval(values: Floats) -> Interval | None:
    finite = values[np.isfinite(values)]
    if not len(finite):  # not defined in any resample
        return None
    low, high = np.percentile(finite, _LEVELS)
    return Interval(low=float(low), high=float(high))
