"""All inference, in a ThreadPoolExecutor, with requests that arrive meanwhile riding together.

A hop to a thread costs about ten times what a small model's score costs. So a model has at most one batch with the
executor; what arrives until that is back waits in the model's lane and goes with the next hop. There is no timer: a
lone request goes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

import structlog

from serving.jvm import Score, ScoresRows
from serving.refusals import Overloaded

log = structlog.get_logger()
MAXIMUM_WAITING = 10_000

Outcome = Score | Exception
_Waiting = tuple[bytes, "asyncio.Future[Score]"]


@dataclass(slots=True)
class Lane:
    """The requests of one model that wait for a hop.

    Args:
        model: Scores the rows; used by one thread at a time, because a lane has one batch under way.
    """

    model: ScoresRows
    waiting: list[_Waiting] = field(default_factory=list)
    under_way: bool = False


class Scorer:
    """The executor and its lanes. Used from the event loop alone.

    Args:
        threads: Batches (of different models) that are scored side by side.
        maximum_waiting: Requests that may wait; one more is refused rather than kept.
        longest_wait_seconds: One that would wait longer for its model, by what rows take at the moment, is refused.
    """

    def __init__(
        self, *, threads: int, maximum_waiting: int = MAXIMUM_WAITING, longest_wait_seconds: float = 1.0
    ) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inference")
        self._maximum_waiting = maximum_waiting
        self._longest_wait = longest_wait_seconds
        self.waiting = 0
        """Requests that wait or are being scored."""
        self.hops: dict[int, int] = {}
        """How many hops to the executor had so many rows, by rows."""
        self._loop = asyncio.get_running_loop()

    def submit(self, lane: Lane, row: bytes) -> asyncio.Future[Score]:
        """Score one encoded row.

        Raises:
            Overloaded: Too many requests wait already, or it would wait too long.
        """
        if self.waiting >= self._maximum_waiting:
            raise Overloaded(f"{self.waiting} predictions are waiting already: try again in a second")
        wait = len(lane.waiting) * lane.model.seconds_per_row
        if wait > self._longest_wait:
            raise Overloaded(f"the model is busy for the next {wait:.3g} seconds: try again after that", wait)
        future: asyncio.Future[Score] = self._loop.create_future()
        lane.waiting.append((row, future))
        self.waiting += 1
        if not lane.under_way:
            lane.under_way = True
            # Not at once: what the loop has read in this same turn rides along.
            self._loop.call_soon(self._dispatch, lane)
        return future

    def close(self) -> None:
        """Wait for the batches under way and end the threads."""
        self._executor.shutdown(wait=True)

    def _dispatch(self, lane: Lane) -> None:
        batch = lane.waiting[: lane.model.capacity]
        lane.waiting = lane.waiting[lane.model.capacity :]
        self.hops[len(batch)] = self.hops.get(len(batch), 0) + 1
        self._executor.submit(copy_context().run, self._score, lane, batch)

    def _score(self, lane: Lane, batch: list[_Waiting]) -> None:
        """In the executor's thread."""
        outcomes = score_each(lane.model, [row for row, _ in batch])
        self._loop.call_soon_threadsafe(self._deliver, lane, batch, outcomes)

    def _deliver(self, lane: Lane, batch: list[_Waiting], outcomes: Sequence[Outcome]) -> None:
        if lane.waiting:
            self._dispatch(lane)
        else:
            lane.under_way = False
        self.waiting -= len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():  # its request was cancelled
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def score_each(model: ScoresRows, rows: Sequence[bytes]) -> Sequence[Outcome]:
    """Score a batch; when it fails, each row alone, so that one request's failure is not the others'."""
    try:
        return model.score(rows)
    except Exception as error:  # the edge of the thread: what escapes here would leave requests unanswered
        if len(rows) == 1:
            log.error("scoring failed", error=str(error))
            return [error]
        return [outcome for row in rows for outcome in score_each(model, [row])]
