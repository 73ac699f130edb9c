"""Gain, confusion, residuals and intervals, against hand calculations and published values."""

from __future__ import annotations

import numpy as np
import pytest

from mage_platform.training.evaluation import calibration
from mage_platform.training.metrics import Scored
from mage_platform.training.report import curves


def _binary(truth: list[float], predicted: list[float]) -> Scored:
    return Scored("binary", np.array(truth), np.array(predicted))


def test_the_share_found_is_counted_from_the_highest_prediction_down() -> None:
    # by falling prediction: 1 1 0 1 0 0 0 0 0 0, three positives among ten
    scored = _binary([1, 0, 1, 0, 1, 0, 0, 0, 0, 0], [0.9, 0.7, 0.8, 0.5, 0.6, 0.4, 0.3, 0.2, 0.1, 0.0])
    found = curves.found_share(scored, np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.0]))
    assert found == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1, 1])


def test_rows_of_equal_prediction_are_found_as_in_a_random_order() -> None:
    # four rows of 0.5 hold two of three positives: half of them is worth one positive
    scored = _binary([1, 1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5, 0.5])
    found = curves.found_share(scored, np.array([0.2, 0.6, 1.0]))
    assert found == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_baseline_that_knows_nothing_gains_nothing() -> None:
    truth = [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    curve = curves.gain_curve(_binary(truth, [float(each) for each in truth]), _binary(truth, [0.4] * 10))
    assert [point.naive for point in curve] == pytest.approx([point.looked_at for point in curve])
    assert [point.looked_at for point in curve[::10]] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert [point.candidate for point in curve[::10]] == pytest.approx([0, 0.5, 1, 1, 1, 1])


def test_a_perfect_order_has_the_greatest_possible_lift() -> None:
    truth = [1.0] * 5 + [0.0] * 95
    curve = curves.gain_curve(_binary(truth, truth), _binary(truth, [0.05] * 100))
    at_a_tenth = next(point for point in curve if point.looked_at == pytest.approx(0.1))
    assert at_a_tenth.candidate / at_a_tenth.looked_at == pytest.approx(10)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3: 81 of 263, and 0 of 20
    some = curves.wilson(np.array([1.0] * 81 + [0.0] * 182))
    assert (round(some.low, 4), round(some.high, 4)) == (0.2553, 0.3662)
    none = curves.wilson(np.zeros(20))
    assert (round(none.low, 4), round(none.high, 4)) == (0.0, 0.1611)


def test_the_interval_of_a_mean_is_two_standard_errors_wide_on_either_side() -> None:
    # mean 4, standard deviation 2, standard error 2 / sqrt(4)
    interval = curves.mean_interval(np.array([2.0, 4.0, 4.0, 6.0]) * np.sqrt(1.5) + 4 * (1 - np.sqrt(1.5)))
    assert (interval.low, interval.high) == pytest.approx((4 - 1.959964, 4 + 1.959964))
    alone = curves.mean_interval(np.array([3.0]))
    assert (alone.low, alone.high) == (3, 3)


def test_each_calibration_bin_has_its_interval() -> None:
    random = np.random.default_rng(1)
    predicted = random.random(95)
    scored = _binary((random.random(95) < predicted).astype(float).tolist(), predicted.tolist())
    bins, intervals = calibration(scored), curves.observed_intervals(scored)
    assert len(bins) == len(intervals) == 10
    assert all(each.low <= at.observed <= each.high for at, each in zip(bins, intervals, strict=True))


def test_the_confusion_counts_every_row_once_and_names_classes_the_model_does_not_know() -> None:
    predicted = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1], [0.6, 0.4]])
    known = curves.confusion(Scored("multiclass", np.array([0.0, 0, 1, 1, 0]), predicted, ("a", "b")))
    assert (known.true, known.predicted, known.rows) == (["a", "b"], ["a", "b"], [[2, 1], [1, 1]])
    more = curves.confusion(Scored("multiclass", np.array([0.0, 0, 1, 2, 2]), predicted, ("a", "b")))
    assert more.true == ["a", "b", curves.UNKNOWN_CLASS]
    assert more.rows == [[1, 1], [0, 1], [2, 0]]


def test_residuals_are_what_happened_less_what_was_predicted() -> None:
    predicted = np.arange(100.0)
    # in each bin of ten: 0 to 9; tenth, median and nine tenths of them by linear interpolation
    shown = curves.residuals(Scored("regression", predicted + np.tile(np.arange(10.0), 10), predicted))
    assert [each.predicted for each in shown.bins] == pytest.approx(np.arange(4.5, 100, 10))
    assert [(each.low, each.median, each.high, each.rows) for each in shown.bins] == [
        pytest.approx((0.9, 4.5, 8.1, 10))
    ] * 10
    assert len(shown.points) == 100
    assert (shown.points[13].predicted, shown.points[13].residual) == (13, 3)
