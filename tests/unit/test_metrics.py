"""Metrics, against values worked out by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from mage_platform.contracts import BinaryMetrics, MulticlassMetrics, RegressionMetrics
from mage_platform.training.metrics import Scored, metrics_of


def _binary(truth: list[float], predicted: list[float]) -> Scored:
    return Scored("binary", np.array(truth, dtype=float), np.array(predicted))


def test_the_metrics_of_four_rows_worked_out_by_hand() -> None:
    # pairs (positive, negative): .8>.1, .8>.4, .35>.1, .35<.4 -> 3 of 4 in order
    metrics = metrics_of(_binary([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    assert isinstance(metrics, BinaryMetrics)
    assert metrics.auc == pytest.approx(3 / 4)
    assert metrics.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4)
    # by falling score: + (precision 1, recall 1/2), -, + (precision 2/3, recall 1)
    assert metrics.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (metrics.rows, metrics.positive_share) == (4, 0.5)


def test_three_classes_worked_out_by_hand() -> None:
    predicted = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    metrics = metrics_of(Scored("multiclass", np.array([0.0, 1.0, 1.0, 2.0]), predicted, ("a", "b", "c")))
    assert isinstance(metrics, MulticlassMetrics)
    assert metrics.log_loss == pytest.approx(-(math.log(0.7) + math.log(0.6) + math.log(0.4) + math.log(0.6)) / 4)
    assert metrics.accuracy == 3 / 4
    assert metrics.balanced_accuracy == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metrics.class_shares == {"a": 0.25, "b": 0.5, "c": 0.25}


def test_numbers_worked_out_by_hand() -> None:
    metrics = metrics_of(Scored("regression", np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 3.0, 1.0, 6.0])))
    assert isinstance(metrics, RegressionMetrics)
    assert metrics.rmse == pytest.approx(math.sqrt((0 + 1 + 4 + 0) / 4))
    assert metrics.mae == pytest.approx(3 / 4)
    # the mean is 3: squared distances 4, 1, 0, 9
    assert metrics.r2 == pytest.approx(1 - 5 / 14)
    assert (metrics.rows, metrics.mean) == (4, 3.0)


rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 9).map(lambda tenth: tenth / 10), st.integers(0, 3)),
    min_size=4, max_size=60,
)  # fmt: skip


@given(rows)
@settings(max_examples=200, deadline=None)
def test_weighted_metrics_of_two_classes_are_those_of_scikit_learn(drawn: list[tuple[int, float, int]]) -> None:
    """Many ties, and rows that count never or several times."""
    drawn = [*drawn, (0, 0.5, 1), (1, 0.5, 1)]
    truth, predicted, weights = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    values = Scored("binary", truth, predicted).values(weights)
    assert values["auc"] == pytest.approx(sklearn.roc_auc_score(truth, predicted, sample_weight=weights))
    assert values["log_loss"] == pytest.approx(sklearn.log_loss(truth, predicted, sample_weight=weights))
    expected = sklearn.average_precision_score(truth, predicted, sample_weight=weights)
    assert values["average_precision"] == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2)), min_size=5))
@settings(max_examples=100, deadline=None)
def test_weighted_metrics_of_classes_and_numbers_are_those_of_scikit_learn(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    drawn = [*drawn, (0, 1, 1, 1), (1, 2, 1, 1), (2, 1, 2, 1)]
    truth, first, second, weights = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    predicted = np.stack([first, second, np.full(len(first), 4.5)], axis=1)
    predicted /= predicted.sum(axis=1, keepdims=True)
    values = Scored("multiclass", truth, predicted, ("a", "b", "c")).values(weights)
    assert values["log_loss"] == pytest.approx(sklearn.log_loss(truth, predicted, sample_weight=weights))
    hard = predicted.argmax(axis=1)
    assert values["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, hard, sample_weight=weights))
    expected = sklearn.balanced_accuracy_score(truth, hard, sample_weight=weights)
    assert values["balanced_accuracy"] == pytest.approx(expected)
    values = Scored("regression", truth, first).values(weights)
    assert values["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(truth, first, sample_weight=weights)))
    assert values["mae"] == pytest.approx(sklearn.mean_absolute_error(truth, first, sample_weight=weights))
    assert values["r2"] == pytest.approx(sklearn.r2_score(truth, first, sample_weight=weights))


def test_the_auc_of_one_class_is_not_defined() -> None:
    assert math.isnan(_binary([1, 1], [0.2, 0.4]).values()["auc"])
