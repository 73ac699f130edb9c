"""When the cache takes part."""

from __future__ import annotations

import asyncio
import random
import struct
from dataclasses import dataclass
from zlib import crc32

import pytest

from serving.cache import SILENCE, Cache
from serving.cache_policy import CacheUse
from tests.serving.test_cache import Clock, Memory

ROWS = [struct.pack("=2d", number, 0.5) for number in range(6400)]
SAMPLED = [row for row in ROWS if crc32(row) % 32 == 0]
ROW = next(row for row in ROWS if row not in SAMPLED)


def asked(use: CacheUse, read: float, score: float, requests: int = 3200, row: bytes = ROW) -> int:
    return sum(use.asks("adaptive", row, read_seconds=read, score_seconds=score) for _ in range(requests))


@pytest.mark.parametrize(("policy", "expected"), [("always", True), ("off", False)])
def test_always_and_off_look_at_nothing_else(policy: str, expected: bool) -> None:
    for row in (ROW, SAMPLED[0]):
        for read, score in ((1.0, 0.0), (0.0, 1.0)):
            for _ in range(100):
                decision = CacheUse().asks(policy, row, read_seconds=read, score_seconds=score)  # type: ignore[arg-type]
                assert decision is expected


def test_adaptive_asks_while_a_read_is_quicker_than_the_scoring_it_saves() -> None:
    def decides(read: float, score: float, share: float) -> bool:
        return asked(CacheUse(hit_share=share), read, score) > 0

    assert decides(100e-6, 500e-6, 0.9)
    assert not decides(100e-6, 500e-6, 0.1)  # so few hits that reading costs more than it saves
    assert not decides(100e-6, 5e-6, 1.0)
    assert not decides(0.0, 500e-6, 1.0)  # not measured yet


def test_adaptive_always_reads_for_about_one_vector_in_thirty_two_and_always_for_the_same() -> None:
    first, second = ([row for row in ROWS if asked(CacheUse(), 1.0, 1e-6, 1, row)] for _ in range(2))
    assert first == second
    assert 140 < len(first) < 260  # 200 of 6,400, and four standard deviations either way


def test_adaptive_scores_one_request_in_thirty_two_while_it_asks() -> None:
    assert asked(CacheUse(hit_share=1.0), 100e-6, 500e-6) == 3200 * 31 // 32


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
    assert use.outcomes() == {"hit": 500, "miss": 500, "joined": 0, "silent": 500, "left_out": 0}


@dataclass
class Measured:
    """One request after the other against a cache whose server becomes slow and quick, with what is measured alone."""

    memory: Memory
    cache: Cache
    clock: Clock
    use: CacheUse
    score_seconds: float = 0.0
    """What scoring takes;"""
    seen_score_seconds: float = 0.0
    """and what was seen of it, by scoring."""

    async def request(self, row: bytes) -> bool:
        """Whether the cache was asked."""
        self.clock.now += 0.1
        asks = self.use.asks(
            "adaptive", row, read_seconds=self.cache.read_seconds, score_seconds=self.seen_score_seconds
        )
        found = await self.cache.look_up(row.hex()) if asks else SILENCE
        if found is not SILENCE:
            self.use.found(hit=found is not None)
        if found is None or found is SILENCE:
            self.seen_score_seconds += (self.score_seconds - self.seen_score_seconds) * 0.1
        if asks and found is None:
            self.cache.write(row.hex(), b"score", 60)
        while self.cache._reading is not None:
            await asyncio.sleep(0.001)
        return asks

    async def until(self, *, asking: bool, delay: float, score_seconds: float) -> None:
        """Go on until nine requests in ten (or one in ten) ask; more than 6,000 are too many."""
        self.memory.delay, self.score_seconds = delay, score_seconds
        choose, shares = random.Random(5), []
        for _ in range(60):
            shares.append(sum([await self.request(choose.choice(ROWS[:64])) for _ in range(100)]))
            if (shares[-1] > 90) if asking else (shares[-1] < 10):
                return
        raise AssertionError(f"of 100 requests each asked: {shares}")


def test_adaptive_changes_its_mind_in_every_direction_by_what_it_measures_itself() -> None:
    async def main() -> None:
        memory, clock = Memory(), Clock()
        live = Measured(memory, Cache(memory, clock), clock, CacheUse())
        await live.until(asking=False, delay=0.0, score_seconds=1e-6)
        await live.until(asking=True, delay=0.0, score_seconds=4e-3)  # scoring becomes slow
        await live.until(asking=False, delay=0.02, score_seconds=4e-3)  # so does Redis
        await live.until(asking=True, delay=0.0, score_seconds=4e-3)  # and quick again
        await live.until(asking=False, delay=0.0, score_seconds=1e-6)  # scoring too, while all requests are hits
        await live.cache.close()

    asyncio.run(main())
