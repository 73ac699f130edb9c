"""The naive baseline, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mage_platform.training.naive import GROUP_WEIGHT as WEIGHT
from mage_platform.training.naive import naive_predictions

TRAIN = pa.table({"carrier": ["a", "a", "a", "b", "b", "b"]})
TEST = pa.table({"carrier": ["a", "b", "never seen"]})


def test_of_two_classes_it_is_the_smoothed_rate_of_the_group() -> None:
    labels = np.array([1.0, 1, 0, 0, 0, 0])
    overall = 2 / 6
    expected = [(2 + WEIGHT * overall) / (3 + WEIGHT), (0 + WEIGHT * overall) / (3 + WEIGHT), overall]
    assert naive_predictions("binary", labels, 2, TRAIN, TEST, ["carrier"]) == pytest.approx(expected)


def test_of_a_number_it_is_the_smoothed_mean_of_the_group() -> None:
    labels = np.array([10.0, 20, 30, 1, 2, 3])
    overall = 66 / 6
    expected = [(60 + WEIGHT * overall) / (3 + WEIGHT), (6 + WEIGHT * overall) / (3 + WEIGHT), overall]
    assert naive_predictions("regression", labels, 0, TRAIN, TEST, ["carrier"]) == pytest.approx(expected)


def test_of_several_classes_it_is_the_smoothed_rate_of_each() -> None:
    labels = np.array([0.0, 0, 1, 2, 2, 2])
    predicted = naive_predictions("multiclass", labels, 3, TRAIN, TEST, ["carrier"])
    assert predicted[0] == pytest.approx((np.array([2, 1, 0]) + WEIGHT * np.array([2, 1, 3]) / 6) / (3 + WEIGHT))
    assert predicted[2] == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert predicted.sum(axis=1) == pytest.approx([1, 1, 1])


def test_without_columns_it_is_the_overall_rate() -> None:
    assert naive_predictions("binary", np.array([1.0, 0, 0, 0]), 2, TRAIN, TEST, []).tolist() == [0.25] * 3
