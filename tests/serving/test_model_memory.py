"""Which models stay in memory; the models here are a few numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving import model_memory
from serving.model_memory import HALF_LIFE_SECONDS, ModelMemory


class Clock:
    """Monotonic seconds that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(model_memory, "time", clock)
    return clock


def a_model(size: int = 10) -> Any:
    return SimpleNamespace(bytes=size, uses=0, heat=0.0, heat_at=0.0, challenge=None)


def names(memory: ModelMemory) -> set[str]:
    return {region for _, region in memory.models}


def put(memory: ModelMemory, name: str, size: int = 10) -> list[str]:
    return [region for _, region in memory.put(("u", name), a_model(size), heat=1.0)]


def test_of_models_that_are_asked_for_alike_the_least_recently_used_goes(clock: Clock) -> None:
    memory = ModelMemory(3, 1000)
    for name in "abc":
        put(memory, name)
        clock.now += 1
    assert put(memory, "d") == ["a"]
    clock.now += 1
    assert put(memory, "e") == ["b"]
    assert names(memory) == {"c", "d", "e"}
    assert memory.evicted == 2


def test_a_popular_model_stays_when_somebody_asks_for_every_model_once(clock: Clock) -> None:
    memory = ModelMemory(3, 1000)
    put(memory, "popular")
    memory.models["u", "popular"].uses += 50
    for number in range(200):
        clock.now += 1
        put(memory, f"once {number}")
    assert names(memory) == {"popular", "once 198", "once 199"}


def test_a_model_that_was_popular_long_ago_goes(clock: Clock) -> None:
    memory = ModelMemory(2, 1000)
    put(memory, "once popular")
    memory.models["u", "once popular"].uses += 50
    put(memory, "b")
    memory.cool()
    clock.now += 10 * HALF_LIFE_SECONDS  # 50 uses count as a twentieth of one
    memory.models["u", "b"].uses += 1
    assert put(memory, "c") == ["once popular"]


def test_bytes_are_bounded_and_a_challenger_counts_with_its_champion(clock: Clock) -> None:
    memory = ModelMemory(100, 100)
    put(memory, "a", 40)
    put(memory, "b", 40)
    assert not memory.has_room()
    big = a_model(30)
    big.challenge = SimpleNamespace(model=a_model(30))
    assert {region for _, region in memory.put(("u", "c"), big, heat=1.0)} == {"a"}
    assert memory.bytes == 100
    assert put(memory, "greater than all by itself", 500) != []
    assert names(memory) == {"greater than all by itself"}


def test_another_version_takes_over_how_much_the_region_is_used(clock: Clock) -> None:
    memory = ModelMemory(2, 1000)
    put(memory, "a")
    memory.models["u", "a"].uses += 9
    put(memory, "b")
    put(memory, "a")
    assert memory.models["u", "a"].heat == pytest.approx(10)
    assert memory.by_use() == [("u", "a"), ("u", "b")]
