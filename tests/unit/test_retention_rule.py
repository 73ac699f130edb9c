"""Which versions lose their MOJO: by hand, and whatever the history of a region was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mage_platform.contracts import AliasMove
from mage_platform.contracts.use_case import Retention
from mage_platform.registry.retention import past_retention

NOW = datetime(2026, 6, 30, tzinfo=UTC)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def move(from_version: int | None, to_version: int, days: float, alias: str = "champion") -> AliasMove:
    return AliasMove(
        use_case="rides", region="Bern", alias=alias, from_version=from_version, to_version=to_version,
        moved_at=days_ago(days), moved_by="anna", reason="test",
    )  # fmt: skip


WEEKLY = {version: days_ago(7 * (20 - version)) for version in range(1, 21)}
"""Twenty weekly trainings; version 20 is of today, version 1 of 133 days ago."""


@pytest.mark.parametrize(
    ("rule", "aliased", "moves", "past"),
    [
        # the newest 10 are 11 to 20; of 30 days are 16 to 20
        (Retention(), [20], [move(None, 20, 0)], list(range(1, 11))),
        # the newest 2 are 19 and 20; of 30 days are 16 to 20
        (Retention(keep_versions=2), [20], [move(None, 20, 0)], list(range(1, 16))),
        # an old champion and an old challenger stay
        (Retention(keep_versions=2, keep_days=1), [3, 5], [move(None, 3, 100)], [1, 2, 4, *range(6, 19)]),
        # a champion left 5 stayed for long, and the one before it is what a rollback goes back to
        (Retention(keep_versions=1, keep_days=1), [9], [move(4, 9, 70)], [1, 2, 3, *range(5, 9), *range(10, 20)]),
        # 6 was left 20 days ago, 4 was left 40 days ago
        (
            Retention(keep_versions=1, keep_days=30), [20],
            [move(19, 20, 0), move(6, 19, 20), move(4, 6, 40), move(None, 4, 80)],
            [1, 2, 3, 4, 5, *range(7, 16)],
        ),
        # also a challenger that was replaced within the days
        (
            Retention(keep_versions=1, keep_days=1), [20], [move(2, 19, 0.5, "challenger"), move(None, 20, 60)],
            [1, *range(3, 20)],
        ),
        (Retention(keep_versions=20, keep_days=1), [], [], []),
    ],
)  # fmt: skip
def test_the_rule_by_hand(rule: Retention, aliased: list[int], moves: list[AliasMove], past: list[int]) -> None:
    assert past_retention(rule, WEEKLY, aliased, moves, NOW) == past


def test_a_region_without_versions_has_none_to_drop() -> None:
    assert past_retention(Retention(), {}, [], [], NOW) == []


rules = st.builds(Retention, keep_versions=st.integers(1, 8), keep_days=st.integers(1, 60))


@st.composite
def regions(draw: st.DrawFn) -> tuple[dict[int, datetime], set[int], list[AliasMove]]:
    """Versions in the order of their registration, and alias moves between them, newest first."""
    ages = sorted(draw(st.lists(st.floats(0, 200), min_size=1, max_size=15)), reverse=True)
    registered = {number: days_ago(age) for number, age in enumerate(ages, 1)}
    moves: list[AliasMove] = []
    at: dict[str, int] = {}
    steps = st.tuples(st.sampled_from(["champion", "challenger"]), st.sampled_from(list(registered)), st.floats(0, 200))
    for alias, version, age in sorted(draw(st.lists(steps, max_size=10)), key=lambda step: -step[2]):
        moves.insert(0, move(at.get(alias), version, age, alias))
        at[alias] = version
    return registered, set(at.values()), moves


@given(rules, regions())
def test_whatever_happened_what_serves_what_served_lately_and_the_newest_stay(
    rule: Retention, region: tuple[dict[int, datetime], set[int], list[AliasMove]]
) -> None:
    registered, aliased, moves = region
    past = set(past_retention(rule, registered, aliased, moves, NOW))
    limit = timedelta(days=rule.keep_days)
    assert not past & aliased
    assert not past & {each.from_version for each in moves if NOW - each.moved_at <= limit}
    assert not past & {version for version, moment in registered.items() if NOW - moment <= limit}
    assert not past & set(sorted(registered, reverse=True)[: rule.keep_versions])
    champion_moves = [each for each in moves if each.alias == "champion"]
    if champion_moves:
        assert champion_moves[0].from_version not in past
    # and no more than that is kept for ever: one that never bore an alias goes
    never = set(registered) - {each.to_version for each in moves}
    oldest = set(sorted(registered)[: -rule.keep_versions])
    assert {version for version in never & oldest if NOW - registered[version] > limit} <= past


@given(rules, regions(), st.integers(0, 5), st.integers(0, 30))
def test_a_more_generous_rule_keeps_at_least_as_much(
    rule: Retention, region: tuple[dict[int, datetime], set[int], list[AliasMove]], versions: int, days: int
) -> None:
    more = Retention(keep_versions=rule.keep_versions + versions, keep_days=rule.keep_days + days)
    assert set(past_retention(more, *region, NOW)) <= set(past_retention(rule, *region, NOW))
