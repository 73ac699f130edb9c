"""The executor and its lanes, with a model that is a few lines of Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from mage_platform.errors import SidecarUnavailable
from serving.jvm import Score
from serving.refusals import Overloaded
from serving.scorer import Lane, Scorer

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


class Echo:
    """Answers each row with its own length; can be held up, and fails on `bad` rows."""

    def __init__(self, capacity: int = 100) -> None:
        self.capacity = capacity
        self.seconds_per_row = 0.0
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.context: list[str] = []

    def score(self, rows: Sequence[bytes]) -> list[Score]:
        self.go.wait(5)
        self.batches.append(len(rows))
        self.threads.add(threading.current_thread().name)
        self.context.append(REQUEST.get())
        if b"bad" in rows:
            raise ArithmeticError("bad row")
        return [[float(len(row))] for row in rows]


def test_requests_that_arrive_while_a_batch_is_scored_ride_together() -> None:
    async def scenario() -> None:
        scorer, model = Scorer(threads=2), Echo()
        lane = Lane(model)
        model.go.clear()
        first = scorer.submit(lane, b"a")
        await asyncio.sleep(0.05)
        later = [scorer.submit(lane, b"b" * n) for n in range(1, 11)]
        model.go.set()
        assert await first == [1.0]
        assert [await one for one in later] == [[float(n)] for n in range(1, 11)]
        assert model.batches == [1, 10]
        assert all(name.startswith("inference") for name in model.threads)
        scorer.close()

    asyncio.run(scenario())


def test_a_lone_request_goes_at_once_and_a_crowd_in_batches_of_the_capacity() -> None:
    async def scenario() -> None:
        scorer, model = Scorer(threads=1), Echo(capacity=4)
        lane = Lane(model)
        assert await scorer.submit(lane, b"abc") == [3.0]
        await asyncio.gather(*(scorer.submit(lane, b"x") for _ in range(10)))
        assert model.batches == [1, 4, 4, 2]
        assert lane.waiting == []
        assert not lane.under_way
        scorer.close()

    asyncio.run(scenario())


def test_one_requests_failure_is_not_the_others() -> None:
    async def scenario() -> None:
        scorer, lane = Scorer(threads=1), Lane(Echo())
        futures = [scorer.submit(lane, row) for row in (b"a", b"bad", b"cc")]
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert (found[0], found[2]) == ([1.0], [2.0])
        assert isinstance(found[1], ArithmeticError)
        assert await scorer.submit(lane, b"dddd") == [4.0]
        scorer.close()

    asyncio.run(scenario())


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    async def scenario() -> None:
        scorer, model = Scorer(threads=1), Echo()
        lane = Lane(model)
        model.go.clear()
        futures = [scorer.submit(lane, b"x" * n) for n in (1, 2, 3)]
        await asyncio.sleep(0.02)
        futures[1].cancel()
        model.go.set()
        assert (await futures[0], await futures[2]) == ([1.0], [3.0])
        scorer.close()

    asyncio.run(scenario())


def test_models_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        scorer, slow = Scorer(threads=2), Echo()
        slow.go.clear()
        held = scorer.submit(Lane(slow), b"slow")
        assert await asyncio.wait_for(scorer.submit(Lane(Echo()), b"quick"), 2) == [5.0]
        slow.go.set()
        assert await held == [4.0]
        scorer.close()

    asyncio.run(scenario())


def test_more_than_may_wait_is_refused_and_room_comes_back() -> None:
    async def scenario() -> None:
        scorer, model = Scorer(threads=1, maximum_waiting=2), Echo()
        lane = Lane(model)
        model.go.clear()
        futures = [scorer.submit(lane, b"x") for _ in range(2)]
        with pytest.raises(SidecarUnavailable, match="2 predictions"):
            scorer.submit(lane, b"x")
        model.go.set()
        await asyncio.gather(*futures)
        assert await scorer.submit(lane, b"xx") == [2.0]
        scorer.close()

    asyncio.run(scenario())


def test_context_variables_reach_the_executor() -> None:
    async def scenario() -> None:
        scorer, model = Scorer(threads=1), Echo()
        REQUEST.set("request 7")
        await scorer.submit(Lane(model), b"x")
        assert model.context == ["request 7"]
        scorer.close()

    asyncio.run(scenario())


def test_a_row_that_would_wait_too_long_for_its_model_is_refused_with_the_time_to_come_back() -> None:
    async def scenario() -> None:
        scorer, slow, other = Scorer(threads=1, longest_wait_seconds=1.0), Echo(), Echo()
        slow.seconds_per_row = 0.4
        slow.go.clear()
        lane = Lane(slow)
        kept = [scorer.submit(lane, b"x") for _ in range(3)]
        await asyncio.sleep(0.05)
        kept += [scorer.submit(lane, b"x") for _ in range(3)]
        with pytest.raises(Overloaded, match=r"busy for the next 1\.2 seconds") as refused:
            scorer.submit(lane, b"x")
        assert refused.value.retry_after_seconds == pytest.approx(1.2)
        kept.append(scorer.submit(Lane(other), b"another model"))
        slow.go.set()
        assert [await one for one in kept] == [[1.0]] * 6 + [[13.0]]
        scorer.close()

    asyncio.run(scenario())
