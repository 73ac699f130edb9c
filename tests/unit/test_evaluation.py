"""Metrics and the naive baseline, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from mage_platform.training.evaluation import GROUP_WEIGHT, binary_metrics, labels_of, naive_probabilities


def test_the_metrics_of_four_rows_worked_out_by_hand() -> None:
    # pairs (positive, negative): .8>.1, .8>.4, .35>.1, .35<.4 -> 3 of 4 in order
    metrics = binary_metrics(np.array([0, 0, 1, 1], dtype=np.int8), np.array([0.1, 0.4, 0.35, 0.8]))
    assert metrics.auc == pytest.approx(3 / 4)
    assert metrics.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4)
    # by falling score: + (precision 1, recall 1/2), -, + (precision 2/3, recall 1)
    assert metrics.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (metrics.rows, metrics.positive_share) == (4, 0.5)


def _table(labels: list[int], carriers: list[str]) -> pa.Table:
    return pa.table({"_label": [str(label) for label in labels], "carrier": carriers})


def test_the_naive_baseline_is_the_smoothed_rate_of_the_group() -> None:
    train = _table([1, 1, 0, 0, 0, 0], ["a", "a", "a", "b", "b", "b"])
    test = _table([0, 0, 0], ["a", "b", "never seen"])
    overall, weight = 2 / 6, GROUP_WEIGHT
    expected = [(2 + weight * overall) / (3 + weight), (0 + weight * overall) / (3 + weight), overall]
    assert naive_probabilities(train, test, ["carrier"]) == pytest.approx(expected)


def test_without_columns_the_naive_baseline_is_the_overall_rate() -> None:
    train = _table([1, 0, 0, 0], ["a"] * 4)
    assert naive_probabilities(train, train, []).tolist() == [0.25] * 4


def test_labels_are_read_from_text() -> None:
    assert labels_of(_table([1, 0, 1], ["a"] * 3)).tolist() == [1, 0, 1]
