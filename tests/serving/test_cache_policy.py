"""When the cache takes part."""

from __future__ import annotations

import pytest

from serving.cache_policy import HitShare, takes_part

KEY, SAMPLED = "pred:model:ff", "pred:model:00"


@pytest.mark.parametrize(("policy", "expected"), [("always", True), ("off", False)])
def test_always_and_off_look_at_nothing_else(policy: str, expected: bool) -> None:
    for key in (KEY, SAMPLED):
        for read, score in ((1.0, 0.0), (0.0, 1.0)):
            decision = takes_part(policy, key, hit_share=0.5, read_seconds=read, score_seconds=score)  # type: ignore[arg-type]
            assert decision is expected


def test_adaptive_asks_while_a_read_is_quicker_than_the_scoring_it_saves() -> None:
    def decide(read: float, score: float, share: float) -> bool:
        return takes_part("adaptive", KEY, hit_share=share, read_seconds=read, score_seconds=score)

    assert decide(100e-6, 500e-6, 0.9)
    assert not decide(100e-6, 500e-6, 0.1)  # so few hits that reading costs more than it saves
    assert not decide(100e-6, 5e-6, 1.0)
    assert not decide(0.0, 500e-6, 1.0)  # not measured yet


def test_adaptive_always_samples_one_key_in_thirty_two() -> None:
    keys = [f"pred:model:{number:02x}" for number in range(256)]
    asked = [takes_part("adaptive", key, hit_share=0.5, read_seconds=1.0, score_seconds=1e-6) for key in keys]
    assert sum(asked) == 8


def test_the_hit_share_follows_what_reads_find() -> None:
    share = HitShare()
    for _ in range(500):
        share.observe(hit=True)
    assert share.value > 0.99
    for _ in range(500):
        share.observe(hit=False)
    assert share.value < 0.01
