"""The look-aside cache, with a server that can be slow, absent or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from serving import cache as module
from serving.cache import SILENCE, Cache


class Memory:
    """A key-value server in memory that counts its round trips."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: dict[str, int] = {}
        self.reads: list[list[str]] = []
        self.writes: list[int] = []
        self.delay = 0.0
        self.delay_of_writes = 0.0
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self._commands: list[tuple[str, bytes, int]] = []

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads.append(list(keys))
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return [self.values.get(key) for key in keys]

    def pipeline(self, transaction: bool = True) -> Any:
        return self

    def set(self, key: str, value: bytes, *, px: int) -> None:
        self._commands.append((key, value, px))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self._commands = self._commands, []
        self.writes.append(len(commands))
        await asyncio.sleep(self.delay_of_writes)
        if self.error:
            raise self.error
        if self.refusal:
            return [self.refusal] * len(commands)
        for key, value, px in commands:
            self.values[key], self.ttls[key] = value, px
        return [True] * len(commands)

    async def aclose(self) -> None:
        pass


def run(scenario: Callable[[Cache, Memory], Awaitable[None]]) -> None:
    async def main() -> None:
        memory = Memory()
        cache = Cache(memory)
        await scenario(cache, memory)
        await cache.close()

    asyncio.run(main())


def test_reads_of_one_moment_share_a_round_trip_and_equal_keys_a_place() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.values = {"a": b"1", "b": b"2"}
        found = await asyncio.gather(*(cache.look_up(key) for key in ("a", "b", "c", "a")))
        assert found == [b"1", b"2", None, b"1"]
        assert memory.reads == [["a", "b", "c"]]
        assert (cache.counts.hits, cache.counts.misses) == (2, 1)

    run(scenario)


def test_writes_share_a_round_trip_and_their_ttl_varies_by_a_tenth() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        for number in range(200):
            cache.write(f"k{number}", b"v", 300)
        await asyncio.sleep(0.01)
        assert memory.writes == [200]
        assert 270_000 <= min(memory.ttls.values()) < max(memory.ttls.values()) <= 330_000

    run(scenario)


def test_a_refused_server_is_left_alone_for_a_while() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.error = RedisConnectionError("refused")
        assert await cache.look_up("a") is SILENCE
        assert not cache.open
        for _ in range(50):
            assert await cache.look_up("a") is SILENCE
            cache.write("a", b"1", 60)
        assert len(memory.reads) == 1
        assert (cache.counts.errors, cache.counts.unanswered, cache.counts.misses) == (1, 1, 0)

    run(scenario)


def test_an_answer_of_the_wrong_shape_is_a_failure_and_nobody_waits_for_ever() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        for garbage in ([], None, 7, [b"1", b"2"], b"1", [1], ["1"], [OutOfMemoryError("OOM")], [[b"1"]], {b"a": b"1"}):

            async def mget(keys: Sequence[str], garbage: Any = garbage) -> Any:
                return garbage

            cache = Cache(memory)
            memory.mget = mget  # type: ignore[method-assign]
            assert await asyncio.wait_for(cache.look_up("a"), 2) is SILENCE
            assert cache.counts.errors == 1
            await cache.close()

    run(scenario)


def test_a_frozen_server_costs_a_request_a_few_milliseconds_once() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.delay = 0.4
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await asyncio.gather(*(cache.look_up(f"k{n}") for n in range(20))) == [SILENCE] * 20
        first = loop.time() - started
        assert not cache.open
        started = loop.time()
        assert [await cache.look_up(f"k{n}") for n in range(200)] == [SILENCE] * 200
        assert first < 0.2
        assert loop.time() - started < 0.2
        assert len(memory.reads) == 1
        assert cache.counts.late == 20

    run(scenario)


def test_a_cancelled_reader_leaves_the_others_their_answer() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.values = {"a": b"1"}
        one, two = (asyncio.ensure_future(cache.look_up("a")) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert await two == b"1"

    run(scenario)


class Clock:
    """Monotonic seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_full_server_is_read_all_the_same_and_written_to_again_later() -> None:
    async def main() -> None:
        memory, clock = Memory(), Clock()
        memory.values = {"a": b"1"}
        memory.refusal = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        cache = Cache(memory, clock)
        for _ in range(50):
            cache.write("b", b"2", 60)
            await asyncio.sleep(0.002)
            assert await cache.look_up("a") == b"1"
        assert memory.writes == [1]
        assert (cache.counts.errors, cache.counts.dropped, cache.counts.hits) == (1, 49, 50)
        memory.refusal = None
        clock.now += 1.1
        cache.write("b", b"2", 60)
        await asyncio.sleep(0.002)
        assert await cache.look_up("b") == b"2"
        await cache.close()

    asyncio.run(main())


def test_a_server_that_is_always_late_is_left_alone_and_asked_again_later() -> None:
    async def main() -> None:
        memory, clock = Memory(), Clock()
        memory.values, memory.delay = {"a": b"1"}, 0.03
        cache = Cache(memory, clock)
        for _ in range(3):
            assert await cache.look_up("a") is SILENCE
            while cache._reading is not None:
                await asyncio.sleep(0.002)
        assert not cache.open
        assert [await cache.look_up("a") for _ in range(20)] == [SILENCE] * 20
        assert (len(memory.reads), cache.counts.late, cache.counts.misses) == (3, 3, 0)
        memory.delay = 0.0
        clock.now += 1.1
        assert await cache.look_up("a") == b"1"
        await cache.close()

    asyncio.run(main())


def test_a_write_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WRITE_SECONDS", 0.02)

    async def main() -> None:
        memory, clock = Memory(), Clock()
        memory.delay_of_writes = 3600
        cache = Cache(memory, clock)
        cache.write("a", b"1", 60)
        await asyncio.sleep(0.1)
        assert cache.counts.errors == 1
        memory.delay_of_writes = 0.0
        clock.now += 1.1
        cache.write("a", b"2", 60)
        await asyncio.sleep(0.01)
        assert memory.values == {"a": b"2"}
        await cache.close()

    asyncio.run(main())


def test_the_time_of_a_read_is_what_a_request_waits_and_follows_both_ways() -> None:
    async def main() -> None:
        memory, clock = Memory(), Clock()
        cache = Cache(memory, clock)

        async def reads(number: int, delay: float) -> float:
            memory.delay = delay
            for _ in range(number):
                await cache.look_up("a")
                while cache._reading is not None:
                    await asyncio.sleep(0.001)
                clock.now += 20
            return cache.read_seconds

        quick = await reads(20, 0.0)
        assert 0 < quick < 0.004
        slow = await reads(30, 0.02)
        assert 0.004 < slow < 0.006  # no request waits longer than 5 ms, and 20 µs for each key
        assert await reads(60, 0.0) < 0.004
        memory.error = RedisConnectionError("refused")
        assert await reads(5, 0.0) < 0.004  # a refusal takes no time, nor is it a reading of one
        assert sum(cache.reads.counts) == 115
        await cache.close()

    asyncio.run(main())
