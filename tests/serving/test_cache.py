"""The look-aside cache, with a server that can be slow, absent or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from serving.cache import Cache


class Memory:
    """A key-value server in memory that counts its round trips."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: dict[str, int] = {}
        self.reads: list[list[str]] = []
        self.writes: list[int] = []
        self.delay = 0.0
        self.error: Exception | None = None
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

    async def execute(self) -> None:
        commands, self._commands = self._commands, []
        self.writes.append(len(commands))
        if self.error:
            raise self.error
        for key, value, px in commands:
            self.values[key], self.ttls[key] = value, px

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
        found = await asyncio.gather(*(cache.read(key) for key in ("a", "b", "c", "a")))
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
        assert await cache.read("a") is None
        assert not cache.open
        for _ in range(50):
            assert await cache.read("a") is None
            cache.write("a", b"1", 60)
        assert len(memory.reads) == 1
        assert cache.counts.errors == 1

    run(scenario)


def test_an_answer_of_the_wrong_shape_is_a_failure_and_nobody_waits_for_ever() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        for garbage in ([], None, 7, [b"1", b"2"]):

            async def mget(keys: Sequence[str], garbage: Any = garbage) -> Any:
                return garbage

            cache = Cache(memory)
            memory.mget = mget  # type: ignore[method-assign]
            assert await asyncio.wait_for(cache.read("a"), 2) is None
            assert cache.counts.errors == 1
            await cache.close()

    run(scenario)


def test_a_frozen_server_costs_a_request_a_few_milliseconds_once() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.delay = 0.4
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await asyncio.gather(*(cache.read(f"k{n}") for n in range(20))) == [None] * 20
        first = loop.time() - started
        assert not cache.open
        started = loop.time()
        assert [await cache.read(f"k{n}") for n in range(200)] == [None] * 200
        assert first < 0.2
        assert loop.time() - started < 0.2
        assert len(memory.reads) == 1
        assert cache.counts.late == 20

    run(scenario)


def test_a_cancelled_reader_leaves_the_others_their_answer() -> None:
    async def scenario(cache: Cache, memory: Memory) -> None:
        memory.values = {"a": b"1"}
        one, two = (asyncio.ensure_future(cache.read("a")) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert await two == b"1"

    run(scenario)
