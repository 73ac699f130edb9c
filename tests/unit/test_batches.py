"""Which regions share a child of the fan-out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mage_platform.contracts import RegionPlan, TrainingWindow
from mage_platform.settings import TrainingSettings
from mage_platform.training.batches import batches_of, child_name

WINDOW = TrainingWindow(
    train_until=datetime(2024, 1, 1, tzinfo=UTC),
    validate_until=datetime(2024, 2, 1, tzinfo=UTC),
    blend_until=datetime(2024, 3, 1, tzinfo=UTC),
    test_until=datetime(2024, 4, 1, tzinfo=UTC),
)
SETTINGS = TrainingSettings(parallel_regions=3, small_region_rows=100, regions_a_child=10)


def plans(*rows: int) -> list[RegionPlan]:
    return [
        RegionPlan(
            use_case="rides", region=f"r{number}", run="1", window=WINDOW, seed=1, maximum_models=1,
            maximum_runtime_seconds=60, labelled_rows=count,
        )
        for number, count in enumerate(rows)
    ]  # fmt: skip


def regions(*rows: int, settings: TrainingSettings = SETTINGS) -> list[list[str]]:
    return [[plan.region for plan in batch.plans] for batch in batches_of(plans(*rows), settings)]


def test_large_regions_are_trained_alone() -> None:
    assert regions(500, 100, 100) == [["r0"], ["r1"], ["r2"]]


def test_few_small_regions_are_trained_alone_as_well() -> None:
    assert regions(5, 5, 500) == [["r0"], ["r1"], ["r2"]]


def test_many_small_regions_share_children_evenly_after_the_large_ones() -> None:
    assert regions(5, 500, 5, 5, 5, 5) == [["r1"], ["r0", "r4"], ["r2", "r5"], ["r3"]]


@pytest.mark.parametrize(("count", "children"), [(4, 3), (30, 3), (31, 4), (300, 30)])
def test_no_child_has_more_than_its_share(count: int, children: int) -> None:
    batches = regions(*[5] * count)
    assert len(batches) == children
    assert max(map(len, batches)) <= 10
    assert sorted(each for batch in batches for each in batch) == sorted(f"r{number}" for number in range(count))


def test_a_child_is_named_by_its_regions() -> None:
    alone, shared = batches_of(plans(500), SETTINGS)[0], batches_of(plans(5, 5, 5, 5), SETTINGS)[0]
    assert (child_name(alone), child_name(shared)) == ("train_r0", "train_r0_and_1_more")
