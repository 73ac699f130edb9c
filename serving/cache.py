"""The look-aside cache, with a TTL: the sidecar's only door to Redis.

Redis may be refused, frozen, slow, flushed, full or answer garbage: none of it fails a request or makes an answer
wrong, and none costs a request more than a few milliseconds. Reads that arrive while another read is under way go
together in one MGET, writes in one pipeline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mage_platform.settings import Settings
from serving.histogram import SECONDS, Histogram
from serving.pause import Pause

log = structlog.get_logger()
PATIENCE_SECONDS = 0.005
"""A request waits this long for Redis; then it computes, while the answer of Redis is still awaited for the record."""
PATIENCE_A_KEY_SECONDS = 0.00002
"""And this much longer for each key: a thousand values take some milliseconds to come over and to be taken apart."""
MOST_LATE = 3
"""Answers in a row that came too late, after which Redis is left alone for a while; one alone may be our own stall."""
LONGEST_WRITE_SECONDS = 1.0
"""A pipeline is given up after this: a server that takes one command each few milliseconds would block all others."""
MAXIMUM_READS = 512
"""Keys of one MGET."""
MAXIMUM_WRITES = 1_000
"""Writes that may wait; one more is dropped, since a missing entry costs one computation."""
TTL_JITTER = 0.1


class Silence(Enum):
    """Stands for what Redis did not say: whether there is a value under a key."""

    SILENCE = "silence"


SILENCE: Final = Silence.SILENCE
Found = bytes | None | Silence


class KeyValueServer(Protocol):
    """What the cache needs of Redis."""

    def mget(self, keys: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """Values of the keys, None where there is none."""

    def pipeline(self, transaction: bool = ...) -> Any:
        """Collects commands for one round trip."""

    async def aclose(self) -> None:
        """Give the connections back."""


@dataclass
class Counts:
    """What the cache did since the start."""

    hits: int = 0
    """Keys that had a value."""
    misses: int = 0
    """Keys that had none."""
    late: int = 0
    """Reads given up because Redis took too long; the request computed."""
    unanswered: int = 0
    """Reads whose round trip failed; the request computed."""
    errors: int = 0
    """Round trips that failed, writes that were refused, and values that are none of ours."""
    dropped: int = 0
    """Writes given up because too many waited, or because Redis takes none."""


def connect(settings: Settings) -> Redis:
    """A client that fails fast and never retries: the request's own computation is the retry."""
    redis = settings.redis
    timeout = redis.timeout_milliseconds / 1000
    password = settings.redis_password
    return Redis(
        host=redis.host,
        port=redis.port,
        db=redis.database,
        password=password.get_secret_value() if password else None,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
    )


class Cache:
    """Reads and writes of the cache, from the event loop.

    Args:
        server: Redis.
        clock: Monotonic seconds.
        maximum_reads: Keys of one MGET; a read that would make them more finds nothing.
        maximum_writes: Writes that may wait.
    """

    def __init__(
        self,
        server: KeyValueServer,
        clock: Callable[[], float] | None = None,
        *,
        maximum_reads: int = MAXIMUM_READS,
        maximum_writes: int = MAXIMUM_WRITES,
    ) -> None:
        self._server = server
        self._maximum_reads = maximum_reads
        self._maximum_writes = maximum_writes
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self.counts = Counts()
        self.read_seconds = 0.0
        """How long a request waits for a read, as a moving average; 0 before the first."""
        self.reads = Histogram(SECONDS)
        """Seconds of the round trips that read."""
        self._reads: dict[str, asyncio.Future[Found]] = {}
        self._writes: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._late, self._late_in_a_row = False, 0
        self._pause, self._pause_of_writes = Pause(), Pause()

    @property
    def open(self) -> bool:
        """False while Redis is left alone after a failure, or keeps an earlier read waiting."""
        return not self._late and self._pause.over(self._clock())

    async def look_up(self, key: str) -> Found:
        """The value of a key, None when there is none, `SILENCE` when Redis does not say in time."""
        return (await self.look_up_many([key]))[0]

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of some keys as they are at one moment, in one round trip.

        None where there is none, or where Redis does not answer in time.
        """
        return [None if value is SILENCE else value for value in await self.look_up_many(keys)]

    async def look_up_many(self, keys: Sequence[str]) -> list[Found]:
        """The values of some keys as they are at one moment, in one round trip; `SILENCE` where it does not answer."""
        added = [key for key in dict.fromkeys(keys) if key not in self._reads]
        if not self.open or len(self._reads) + len(added) > self._maximum_reads:
            return [SILENCE] * len(keys)
        for key in added:
            self._reads[key] = self._loop.create_future()
        if self._reading is None:
            self._reading = self._loop.create_task(self._read_all())
        futures = [self._reads[key] for key in keys]
        # Shielded: several requests may wait for one key, and one of them may be cancelled.
        return [future.result() if future.done() else await asyncio.shield(future) for future in futures]

    def write(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Keep a value, in the background. The TTL varies a little, so that entries do not all expire at once."""
        spread = random.uniform(1 - TTL_JITTER, 1 + TTL_JITTER)
        self._write(key, value, px=max(1000, round(ttl_seconds * 1000 * spread)))

    def write_if_absent(self, key: str, value: bytes) -> None:
        """Keep a value without a TTL where the key has none yet, in the background."""
        self._write(key, value, nx=True)

    def overwrite(self, key: str, value: bytes) -> None:
        """Keep a value without a TTL, in the background."""
        self._write(key, value)

    def refuse_value(self) -> None:
        """Count a value that is none of ours."""
        self.counts.errors += 1

    async def close(self) -> None:
        """End what is under way and give the connections back."""
        tasks = [task for task in (self._reading, self._writing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.aclose()

    def _write(self, key: str, value: bytes, **options: Any) -> None:
        if not self.open:
            return
        if len(self._writes) >= self._maximum_writes or not self._pause_of_writes.over(self._clock()):
            self.counts.dropped += 1
            return
        self._writes[key] = (value, options)
        if self._writing is None:
            self._writing = self._loop.create_task(self._write_all())

    async def _read_all(self) -> None:
        try:
            # A turn of the loop later: the reads of the requests that arrived together go together.
            await asyncio.sleep(0)
            while self._reads:
                batch, self._reads = self._reads, {}
                await self._read_batch(batch)
        finally:
            self._reading = None

    async def _read_batch(self, batch: dict[str, asyncio.Future[Found]]) -> None:
        patience = PATIENCE_SECONDS + len(batch) * PATIENCE_A_KEY_SECONDS
        timer = self._loop.call_later(patience, self._give_up, batch)
        started = self._loop.time()
        values: Sequence[Found] = [SILENCE] * len(batch)
        try:
            values = _one_for_each(batch, await self._server.mget(list(batch)))
            self._answered()
        except Exception as error:  # the edge: whatever the other side does, the requests compute
            self._failed(error)
        finally:
            timer.cancel()
            self._late = False
            self._measure(self._loop.time() - started, patience)
            for future, value in zip(batch.values(), values, strict=True):
                if not future.done():
                    self._count(value)
                    future.set_result(value)

    def _count(self, value: Found) -> None:
        counts = self.counts
        if value is SILENCE:
            counts.unanswered += 1
        elif value is None:
            counts.misses += 1
        else:
            counts.hits += 1

    def _give_up(self, batch: dict[str, asyncio.Future[Found]]) -> None:
        self._late = True
        waiting = [future for future in (*batch.values(), *self._reads.values()) if not future.done()]
        self._reads = {}
        self.counts.late += len(waiting)
        for future in waiting:
            future.set_result(SILENCE)

    async def _write_all(self) -> None:
        try:
            await asyncio.sleep(0)
            while self._writes:
                batch, self._writes = self._writes, {}
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(self, batch: dict[str, tuple[bytes, dict[str, Any]]]) -> None:
        pipeline = self._server.pipeline(transaction=False)
        for key, (value, options) in batch.items():
            pipeline.set(key, value, **options)
        try:
            async with asyncio.timeout(LONGEST_WRITE_SECONDS):
                answers = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # the edge: a missing entry costs one computation
            self._failed(error)
            return
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        if not refusals:
            self._pause_of_writes.reset()
            return
        # Redis answers but takes nothing: it is full, or a replica. What it has can be read all the same.
        self.counts.errors += len(refusals)
        if self._pause_of_writes.over(self._clock()):
            pause = self._pause_of_writes.begin(self._clock())
            log.warning("cache takes no writes", error=str(refusals[0]), pause_seconds=pause)

    def _measure(self, seconds: float, patience: float) -> None:
        """Note how long a round trip took, however it ended. No request waits for it longer than its patience."""
        self.reads.observe(seconds)
        waited, before = min(seconds, patience), self.read_seconds
        self.read_seconds = before * 0.9 + waited * 0.1 if before else waited

    def _answered(self) -> None:
        if not self._late:
            self._late_in_a_row = 0
            self._pause.reset()
            return
        self._late_in_a_row += 1
        if self._late_in_a_row >= MOST_LATE:
            self._leave_alone(f"{self._late_in_a_row} answers in a row took longer than a request waits")

    def _failed(self, error: BaseException) -> None:
        self.counts.errors += 1
        self._leave_alone(f"{type(error).__name__}: {error}")

    def _leave_alone(self, reason: str) -> None:
        if self._pause.over(self._clock()):
            pause = self._pause.begin(self._clock())
            log.warning("cache left out", error=reason, pause_seconds=pause)


def _one_for_each(keys: Collection[str], values: Any) -> Sequence[Found]:
    if not isinstance(values, list) or len(values) != len(keys):
        raise ValueError(f"MGET of {len(keys)} keys was answered with {type(values).__name__} of another length")
    if wrong := [value for value in values if value is not None and type(value) is not bytes]:
        raise ValueError(f"MGET was answered with a {type(wrong[0]).__name__} among the values")
    return values
