"""Intervals and paired comparisons on held-out rows."""

from __future__ import annotations

import numpy as np
import pytest

from mage_platform.training.bootstrap import FEWEST_DAYS, Resampled, Resamples
from mage_platform.training.metrics import Scored

DAY = 86_400_000_000


def _moments(days: int, rows_a_day: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.repeat(np.arange(days, dtype=np.int64) * DAY, rows_a_day)


def test_the_interval_of_a_mean_error_is_that_of_the_normal_distribution() -> None:
    """The mean absolute error of independent rows: mean ± 1.96 standard errors, by the central limit theorem."""
    random = np.random.default_rng(3)
    errors = random.exponential(2.0, 2000)
    scored = Scored("regression", np.zeros(2000), errors)
    resamples = Resamples.of(np.zeros(2000, np.int64), seed=1)
    assert resamples.unit == "rows"
    interval = Resampled.of(scored, resamples).evaluated().intervals["mae"]
    half = 1.96 * errors.std() / np.sqrt(2000)
    assert interval.low == pytest.approx(errors.mean() - half, abs=0.2 * half)
    assert interval.high == pytest.approx(errors.mean() + half, abs=0.2 * half)


def test_rows_of_a_day_that_err_together_count_as_one() -> None:
    """Twenty-five days of a hundred equal errors: the interval is as wide as that of twenty-five rows, not of 2,500."""
    random = np.random.default_rng(4)
    daily = random.exponential(2.0, 25)
    scored = Scored("regression", np.zeros(2500), np.repeat(daily, 100))
    resamples = Resamples.of(_moments(25, 100), seed=1)
    assert (resamples.unit, resamples.units) == ("days", 25)
    interval = Resampled.of(scored, resamples).evaluated().intervals["mae"]
    half = 1.96 * daily.std() / 5
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.3)


def test_few_days_are_not_drawn_as_a_whole() -> None:
    assert Resamples.of(_moments(FEWEST_DAYS - 1, 10), seed=1).unit == "rows"
    assert Resamples.of(_moments(FEWEST_DAYS, 10), seed=1).unit == "days"


def test_comparisons_are_paired() -> None:
    """Two models that err alike, one a little less on every row: each is uncertain, the difference is not."""
    random = np.random.default_rng(5)
    errors = random.exponential(2.0, 300)
    truth = np.zeros(300)
    resamples = Resamples.of(np.zeros(300, np.int64), seed=1)
    worse, better = (
        Resampled.of(Scored("regression", truth, each), resamples) for each in (errors, errors * 0.99)
    )  # fmt: skip
    compared = better.against(worse, "rmse")
    assert compared.confidence == 1.0
    assert compared.gain > 0
    assert compared.interval is not None
    assert compared.interval.low > 0
    assert worse.against(better, "rmse").confidence == 0.0
    assert better.evaluated().intervals["rmse"].high > worse.evaluated().intervals["rmse"].low


def test_a_model_against_itself_is_never_better() -> None:
    scored = Scored("binary", np.array([0.0, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.3]))
    one = Resampled.of(scored, Resamples.of(np.zeros(4, np.int64), seed=1))
    compared = one.against(one, "auc")
    assert (compared.gain, compared.confidence) == (0.0, 0.0)


def test_the_same_seed_gives_the_same_intervals() -> None:
    scored = Scored("regression", np.zeros(50), np.arange(50.0))
    intervals = [
        Resampled.of(scored, Resamples.of(np.zeros(50, np.int64), seed)).evaluated().intervals for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]
