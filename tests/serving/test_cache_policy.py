"""When the cache takes part."""

from __future__ import annotations

import pytest

from serving.cache_policy import CacheUse

KEY, SAMPLED = "pred:model:ff", "pred:model:00"


def asked(use: CacheUse, read: float, score: float, requests: int = 3200, key: str = KEY) -> int:
    return sum(use.asks("adaptive", key, read_seconds=read, score_seconds=score) for _ in range(requests))


@pytest.mark.parametrize(("policy", "expected"), [("always", True), ("off", False)])
def test_always_and_off_look_at_nothing_else(policy: str, expected: bool) -> None:
    for key in (KEY, SAMPLED):
        for read, score in ((1.0, 0.0), (0.0, 1.0)):
            for _ in range(100):
                decision = CacheUse().asks(policy, key, read_seconds=read, score_seconds=score)  # type: ignore[arg-type]
                assert decision is expected


def test_adaptive_asks_while_a_read_is_quicker_than_the_scoring_it_saves() -> None:
    def decides(read: float, score: float, share: float) -> bool:
        return asked(CacheUse(hit_share=share), read, score) > 0

    assert decides(100e-6, 500e-6, 0.9)
    assert not decides(100e-6, 500e-6, 0.1)  # so few hits that reading costs more than it saves
    assert not decides(100e-6, 5e-6, 1.0)
    assert not decides(0.0, 500e-6, 1.0)  # not measured yet


def test_adaptive_always_samples_one_key_in_thirty_two() -> None:
    keys = [f"pred:model:{number:02x}" for number in range(256)]
    assert sum(asked(CacheUse(), 1.0, 1e-6, 1, key) for key in keys) == 8


def test_adaptive_scores_one_request_in_thirty_two_while_it_asks_so_that_it_sees_scoring_become_quick() -> None:
    assert asked(CacheUse(hit_share=1.0), 100e-6, 500e-6) == 3200 * 31 // 32


def test_adaptive_changes_its_mind_with_either_time_in_both_directions() -> None:
    use = CacheUse(hit_share=0.9)
    decisions = [
        asked(use, read, score) > 0
        for read, score in [
            (100e-6, 20e-6),
            (100e-6, 2e-3),  # scoring becomes slow
            (4e-3, 2e-3),  # so does Redis
            (100e-6, 2e-3),  # and quick again
            (100e-6, 20e-6),
        ]
    ]
    assert decisions == [False, True, False, True, False]


def test_the_hit_share_follows_what_reads_find_and_silence_is_not_a_miss() -> None:
    use = CacheUse()
    for _ in range(500):
        use.found(hit=True)
    assert use.hit_share > 0.99
    use.silent += 500
    assert use.hit_share > 0.99
    for _ in range(500):
        use.found(hit=False)
    assert use.hit_share < 0.01
    assert use.snapshot() == {
        "hits": 500,
        "misses": 500,
        "joined": 0,
        "silent": 500,
        "refused": 0,
        "left_out": 0,
        "hit_share": use.hit_share,
    }
