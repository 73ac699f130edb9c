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


def test_groups_of_several_columns_with_gaps_are_those_of_counting_by_hand() -> None:
    """Against a dictionary of sums, on rows with missing values and levels that only one side has."""
    random = np.random.default_rng(2)

    def rows(count: int, levels: list[str | None]) -> pa.Table:
        return pa.table({name: random.choice(np.array(levels, dtype=object), count).tolist() for name in "ab"})

    train, test = rows(400, ["x", "y", None]), rows(100, ["x", "z", None])
    labels = random.integers(0, 2, 400).astype(float)
    overall, sums, counts = labels.mean(), dict[object, float](), dict[object, int]()
    for key, label in zip(zip(*(train[name].to_pylist() for name in "ab"), strict=True), labels, strict=True):
        sums[key], counts[key] = sums.get(key, 0.0) + label, counts.get(key, 0) + 1
    expected = [
        (sums.get(key, 0.0) + WEIGHT * overall) / (counts.get(key, 0) + WEIGHT)
        for key in zip(*(test[name].to_pylist() for name in "ab"), strict=True)
    ]
    assert naive_predictions("binary", labels, 2, train, test, ["a", "b"]) == pytest.approx(expected)
