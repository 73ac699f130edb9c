"""Newest vectors through the cache: with a real Valkey and PostgreSQL, and with every way the former can fail."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import pytest
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

import serving.cache
import serving.vectors
from mage_platform.contracts import UseCase, entity_id_of
from mage_platform.database import connect
from mage_platform.features.vector_cache import forget, generation_key, vector_key
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from serving.problems import VectorNotStored
from serving.vector_cache import vector_cache
from serving.vectors import StoredVectors
from tests import demo_use_case as demo
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered
from tests.serving.valkey_process import command, valkey, with_ports

pytestmark = pytest.mark.integration
PATIENCE_SECONDS = serving.cache.PATIENCE_SECONDS
REGION = "Bern"
RIDE = entity_id_of(demo.NAME, ["Bern-0"])
Scenario = Callable[[StoredVectors], Awaitable[None]]


@pytest.fixture
def hurried(settings: Settings) -> Settings:
    """Settings whose Redis port is the test's alone; nothing listens there yet."""
    return with_ports(settings, redis=free_port())


@pytest.fixture
def cached(hurried: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same with much patience for Redis, so that on a busy machine no read is given up that would be a hit."""
    monkeypatch.setattr(serving.cache, "PATIENCE_SECONDS", 5.0)
    return hurried.model_copy(update={"redis": hurried.redis.model_copy(update={"timeout_milliseconds": 5000})})


@pytest.fixture
def redis(cached: Settings, tmp_path: Path) -> Iterator[Popen[bytes]]:
    with valkey(cached.redis.port, tmp_path, cached) as process:
        yield process


@pytest.fixture
def use_case(cached: Settings) -> UseCase:
    demo.write_use_case(cached.use_cases_folder)
    return load_use_case(cached, demo.NAME)


@pytest.fixture
def rides(cached: Settings, use_case: UseCase) -> pd.DataFrame:
    """Vectors of 400 rides of each city, not yet stored."""
    return build_vectors(cached, use_case, load_rows(cached, use_case))


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each query to PostgreSQL the number of entities it was for."""
    counted: list[int] = []
    one, many = serving.vectors.latest_vector, serving.vectors.latest_vectors

    async def count_one(*arguments: Any, **named: Any) -> Any:
        counted.append(1)
        return await one(*arguments, **named)

    async def count_many(*arguments: Any, **named: Any) -> Any:
        counted.append(len(named["entity_ids"]))
        return await many(*arguments, **named)

    monkeypatch.setattr(serving.vectors, "latest_vector", count_one)
    monkeypatch.setattr(serving.vectors, "latest_vectors", count_many)
    return counted


def run(settings: Settings, scenario: Scenario) -> None:
    """Play a scenario with a reader of its own, in an event loop of its own."""

    async def main() -> None:
        vectors = StoredVectors(settings, vector_cache(settings))
        await vectors.open()
        try:
            await asyncio.wait_for(scenario(vectors), 120)
        finally:
            await vectors.close()

    asyncio.run(main())


async def hour(vectors: StoredVectors, entity_id: UUID = RIDE) -> int:
    """The feature that the tests change, of the newest vector."""
    return int((await vectors.latest(demo.NAME, REGION, entity_id, None)).features["hour"])


async def until_hit(vectors: StoredVectors, entity_id: UUID = RIDE, region: str = REGION) -> None:
    """Fills go behind the answer, and the breaker has its pauses: ask until the cache answers."""
    until = time.monotonic() + 30
    hits = vectors.counts.hits
    while vectors.counts.hits == hits:
        assert time.monotonic() < until, "never answered from the cache"
        await asyncio.sleep(0.02)
        await vectors.latest(demo.NAME, region, entity_id, None)


def with_hour(rides: pd.DataFrame, value: int) -> pd.DataFrame:
    return rides.assign(hour=pd.array([value] * len(rides), dtype="Int64"))


def store_json(settings: Settings, entity_id: UUID, event_time: datetime, features: Any, region: str = REGION) -> None:
    with connect(settings) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
            "VALUES (%s, %s, %s, %s, %s)",
            [entity_id, event_time, Jsonb(features), demo.NAME, region],
        )


def test_a_vector_that_was_read_once_is_answered_from_the_cache(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame, queries: list[int]
) -> None:
    store_vectors(cached, use_case, with_hour(rides, 3))

    async def scenario(vectors: StoredVectors) -> None:
        assert await hour(vectors) == 3
        assert (vectors.counts.hits, vectors.counts.misses, queries) == (0, 1, [1])
        await until_hit(vectors)
        asked = len(queries)
        for _ in range(20):
            assert await hour(vectors) == 3
        assert len(queries) == asked
        left = command(cached.redis.port, "TTL", vector_key(demo.NAME, REGION, RIDE))
        assert 260 <= int(left[1:]) <= 331

    run(cached, scenario)


def test_a_vector_is_the_same_to_the_byte_from_either_side(
    cached: Settings, redis: Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")  # the session's time zone must not show
    generator = random.Random(5)
    floats = [struct.unpack("d", generator.randbytes(8))[0] for _ in range(2_000)]
    features = {
        "floats": [value for value in floats if math.isfinite(value)],
        "edges": [0.1 + 0.2, 1.0, 1, 5e-324, 1.7976931348623157e308, 2**53 + 1, 2**63, 10**30, -0.0, 1e16, 1e-7],
        "text": 'tab\t, newline\n, back\\slash, "quotes", nul-free, ünï, \u2028, 🛫',
        "nothing": None,
        "yes": True,
        "zz": {"b": [], "aa": {}},
    }
    entity = uuid4()
    store_json(cached, entity, datetime(2026, 5, 1, 1, 2, 3, 456_789, tzinfo=UTC), features)

    async def scenario(vectors: StoredVectors) -> None:
        stored = await vectors.latest(demo.NAME, REGION, entity, None)
        await until_hit(vectors, entity)
        hits = vectors.counts.hits
        kept = await vectors.latest(demo.NAME, REGION, entity, None)
        assert vectors.counts.hits == hits + 1
        assert kept.model_dump_json() == stored.model_dump_json()
        assert repr(kept) == repr(stored)
        many = await vectors.latest_many(demo.NAME, REGION, [entity])
        assert repr(many) == repr({entity: stored})
        # PostgreSQL writes a float without an exponent, so that a great one comes back as a whole number.
        assert [float(value) for value in stored.features["floats"]] == features["floats"]

    run(cached, scenario)


def test_an_ingest_is_seen_at_once(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame
) -> None:
    async def scenario(vectors: StoredVectors) -> None:
        for value in range(8):
            await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, value))
            assert await hour(vectors) == value
            await until_hit(vectors)
            assert await hour(vectors) == value
        assert vectors.counts.stale >= 7

    run(cached, scenario)


def test_a_vector_read_before_an_ingest_and_kept_after_it_never_counts(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_vectors(cached, use_case, with_hour(rides, 1))
    read = serving.vectors.latest_vector
    port, key = cached.redis.port, vector_key(demo.NAME, REGION, RIDE)

    async def overtaken(*arguments: Any, **named: Any) -> Any:
        vector = await read(*arguments, **named)
        monkeypatch.setattr(serving.vectors, "latest_vector", read)
        await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, 2))
        # A request from after the ingest does not join the read from before it either.
        assert await asyncio.wait_for(hour(reader), 30) == 2
        return vector

    async def scenario(vectors: StoredVectors) -> None:
        nonlocal reader
        reader = vectors
        monkeypatch.setattr(serving.vectors, "latest_vector", overtaken)
        assert await hour(vectors) == 1  # it was asked for before the ingest ended
        until = time.monotonic() + 10
        while b'"hour":1' not in command(port, "GET", key):  # the late fill has overwritten the right one
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        stale = vectors.counts.stale
        for _ in range(20):
            assert await hour(vectors) == 2
        assert vectors.counts.stale > stale
        await until_hit(vectors)
        assert await hour(vectors) == 2

    reader: StoredVectors
    run(cached, scenario)


def test_after_a_flush_and_after_the_loss_of_the_generation_alone_nothing_old_comes_back(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame
) -> None:
    port = cached.redis.port

    async def scenario(vectors: StoredVectors) -> None:
        for value, lost in ((1, ["FLUSHALL"]), (2, ["DEL", generation_key(demo.NAME)])):
            await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, value))
            await until_hit(vectors)
            command(port, *lost)
            await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, value + 10))
            assert await hour(vectors) == value + 10
            await until_hit(vectors)
            command(port, *lost)
            assert await hour(vectors) == value + 10
            await until_hit(vectors)
            assert await hour(vectors) == value + 10

    run(cached, scenario)


def test_garbage_in_the_cache_is_counted_answered_past_and_mended(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame
) -> None:
    store_vectors(cached, use_case, with_hour(rides, 4))
    port, key = cached.redis.port, vector_key(demo.NAME, REGION, RIDE)
    other = f'{{"entity_id": "{uuid4()}", "event_time": "2026-01-01T00:00:00Z", "features": {{}}}}'
    naive = f'{{"entity_id": "{RIDE}", "event_time": "2026-01-01T00:00:00", "features": {{}}}}'

    async def scenario(vectors: StoredVectors) -> None:
        await until_hit(vectors)
        stamp = command(port, "GET", generation_key(demo.NAME)).split(b"\r\n")[1] + b"\n"
        endings = (b"", b"{}", b"[]", b"7", b"\xff\xfe", other.encode(), naive.encode())
        for garbage in (b"", b"none of it", *(stamp + ending for ending in endings)):
            command(port, "SET", key, garbage)
            errors = vectors._cache.cache.counts.errors
            assert await hour(vectors) == 4
            assert vectors._cache.cache.counts.errors == errors + 1, garbage
            await until_hit(vectors)
        for name in (key, generation_key(demo.NAME)):  # of a type that is no text at all
            command(port, "DEL", name)
            command(port, "RPUSH", name, "x")
            assert await hour(vectors) == 4
        command(port, "SET", generation_key(demo.NAME), "yesterday")
        assert await hour(vectors) == 4
        await until_hit(vectors)
        for broken in (["SET", generation_key(demo.NAME), "1.5"], ["SET", generation_key(demo.NAME), "9" * 30]):
            command(port, *broken)
            await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, 4))
            await until_hit(vectors)

    run(cached, scenario)


def test_without_redis_postgresql_answers_and_an_ingest_is_a_single_warning(
    cached: Settings, use_case: UseCase, rides: pd.DataFrame, tmp_path: Path
) -> None:
    with capture_logs() as events:
        store_vectors(cached, use_case, with_hour(rides, 1))
    warnings = [event for event in events if event["log_level"] == "warning"]
    assert [event["event"] for event in warnings] == ["stored vectors not forgotten"]
    assert warnings[0]["stale_seconds"] == cached.redis.vector_ttl_seconds

    async def scenario(vectors: StoredVectors) -> None:
        started = time.monotonic()
        for _ in range(100):
            assert await hour(vectors) == 1
        assert time.monotonic() - started < 10
        assert vectors._cache.cache.counts.errors >= 1
        assert (vectors.counts.hits, vectors.counts.misses) == (0, 100)
        with valkey(cached.redis.port, tmp_path, cached) as process:
            await until_hit(vectors)
            process.kill()
            process.wait()
            for _ in range(100):
                assert await hour(vectors) == 1

    run(cached, scenario)


def test_a_frozen_redis_costs_milliseconds_and_an_ingest_ends_all_the_same(
    cached: Settings,
    hurried: Settings,
    redis: Popen[bytes],
    use_case: UseCase,
    rides: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving.cache, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    store_vectors(cached, use_case, with_hour(rides, 1))

    async def scenario(vectors: StoredVectors) -> None:
        await until_hit(vectors)
        redis.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        for number in range(200):
            assert await hour(vectors, entity_id_of(demo.NAME, [f"Bern-{number}"])) == 1
        assert time.monotonic() - started < 8  # a wait for the server's own timeout each would be 10 s and more
        counts = vectors._cache.cache.counts
        assert counts.late + counts.errors >= 1
        with capture_logs() as events:
            report = await asyncio.to_thread(store_vectors, cached, use_case, with_hour(rides, 2))
        assert report.updated == len(rides)
        assert [event["event"] for event in events if event["log_level"] == "warning"] == [
            "stored vectors not forgotten"
        ]
        redis.send_signal(signal.SIGCONT)
        forget(cached, demo.NAME)
        await until_hit(vectors)
        assert await hour(vectors) == 2

    run(hurried, scenario)


def test_five_hundred_who_miss_at_once_share_one_query(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, rides: pd.DataFrame, queries: list[int]
) -> None:
    store_vectors(cached, use_case, with_hour(rides, 6))

    async def scenario(vectors: StoredVectors) -> None:
        one = [asyncio.ensure_future(hour(vectors)) for _ in range(500)]
        await asyncio.sleep(0)
        one[0].cancel()  # whoever began the read, the others get their answer
        answers = await asyncio.gather(*one, return_exceptions=True)
        assert answers[1:] == [6] * 499
        assert queries == [1]
        command(cached.redis.port, "FLUSHALL")  # and those who know no generation share one as well
        await asyncio.sleep(0.2)
        queries.clear()
        assert await asyncio.gather(*(hour(vectors) for _ in range(500))) == [6] * 500
        assert queries == [1]

    run(cached, scenario)


def test_a_thousand_entities_are_one_query_and_then_none(
    cached: Settings, redis: Popen[bytes], use_case: UseCase, queries: list[int]
) -> None:
    vectors_stored = build_vectors(cached, use_case, demo.ride_rows(cities=(REGION,), rows_a_city=990))
    store_vectors(cached, use_case, vectors_stored)
    stored = {UUID(str(row[ENTITY_ID])): row for row in vectors_stored.to_dict("records")}
    missing = [uuid4() for _ in range(10)]
    wanted = [*missing[:5], *stored, *missing[5:]]

    async def scenario(vectors: StoredVectors) -> None:
        first = await vectors.latest_many(demo.NAME, REGION, [*wanted, *wanted[:50]])
        assert queries == [1_000]
        assert first.keys() == stored.keys()
        for entity_id, vector in first.items():
            row = stored[entity_id]
            assert vector.entity_id == str(entity_id)
            assert vector.event_time == row[EVENT_TIME]
            assert (vector.features["hour"], vector.features["carrier"]) == (row["hour"], row["carrier"])
        until = time.monotonic() + 30
        while vectors.counts.hits < len(stored):
            assert time.monotonic() < until, vectors._cache.cache.counts
            await asyncio.sleep(0.1)
            vectors.counts.hits = 0
            queries.clear()
            again = await vectors.latest_many(demo.NAME, REGION, wanted)
            assert repr([again[each] for each in stored]) == repr([first[each] for each in stored])
        assert queries == [10]  # for those that are not stored, and for no other
        assert await vectors.latest_many(demo.NAME, REGION, []) == {}
        assert await vectors.latest_many(demo.NAME, "Genève", wanted) == {}

    run(cached, scenario)


def test_a_prediction_of_an_earlier_moment_gets_the_vector_of_then(
    cached: Settings, redis: Popen[bytes], queries: list[int]
) -> None:
    entity, noon = uuid4(), datetime(2026, 5, 1, 12, tzinfo=UTC)
    for hours in (-1, 0, 1):
        store_json(cached, entity, noon + timedelta(hours=hours), {"hour": 12 + hours})

    async def scenario(vectors: StoredVectors) -> None:
        async def at(moment: datetime) -> int:
            return int((await vectors.latest(demo.NAME, REGION, entity, moment)).features["hour"])

        for _ in range(2):  # with the newest not yet kept, and kept
            assert await at(noon) == 12
            assert await at(noon - timedelta(microseconds=1)) == 11
            with pytest.raises(VectorNotStored, match="not later than"):
                await at(noon - timedelta(hours=2))
            assert await at(noon + timedelta(hours=1)) == 13
            await until_hit(vectors, entity)
        queries.clear()
        assert await at(noon + timedelta(hours=1)) == 13
        assert await at(noon + timedelta(days=9)) == 13
        assert queries == []

    run(cached, scenario)


def test_a_vector_older_than_the_use_case_allows_is_refused(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    version = registered(servers, trained, demo.NAME, "aged", "gbm", maximum_vector_age_seconds=3600)
    promote(servers, demo.NAME, "aged", version)
    served.await_version(demo.NAME, "aged", version)
    entity, noon = uuid4(), datetime(2026, 5, 1, 12, tzinfo=UTC)
    store_json(servers, entity, noon, trained.vectors()[0], "aged")

    def ask(**more: Any) -> Any:
        return served.predict(demo.NAME, "aged", None, entity_id=str(entity), **more)

    for _ in range(3):  # from PostgreSQL and from the cache alike
        fits = ask(event_time="2026-05-01T13:00:00Z")
        assert fits.status_code == 200, fits.text
        for more in ({"event_time": "2026-05-01T13:00:00.000001Z"}, {}):
            late = ask(**more)
            assert late.status_code == 409
            assert late.headers["content-type"] == "application/problem+json"
            problem = late.json()
            assert problem["type"] == "urn:problem:mage-platform:vector-too-old"
            for named in (str(entity), "2026-05-01T12:00:00+00:00", "3600 seconds"):
                assert named in problem["detail"]
            assert problem["errors"][0]["field"] == "entity_id"
        time.sleep(0.1)
    store_json(servers, entity, datetime.now(UTC), trained.vectors()[0], "aged")
    forget(servers, demo.NAME)
    assert ask().status_code == 200
