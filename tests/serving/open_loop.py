"""Requests that come at a set rate, whatever becomes of those before them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

Body = Callable[[int], dict[str, Any]]


@dataclass
class Answered:
    """What became of one request."""

    number: int
    status: int
    body: dict[str, Any]
    at: float
    """Monotonic seconds of the answer."""


@dataclass
class Lost:
    """A request that got no answer at all."""

    sent: float | None
    """When the last of it went out, in monotonic seconds; None when it never did."""
    at: float
    """When that was known, in monotonic seconds."""
    reason: str


@dataclass
class OpenLoop:
    """Asks at a rate from a thread of its own.

    Args:
        url: Of the sidecar.
        body: The request of a number.
        rate: Requests a second.
    """

    url: str
    body: Body
    rate: float
    answers: list[Answered] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until it is stopped, then wait for the last answers."""
        asyncio.run(self._all())

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def await_answers(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted, until = len(self.answers) + more, time.monotonic() + 60
        while len(self.answers) < wanted:
            assert time.monotonic() < until
            time.sleep(0.02)

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=limits) as client:
            began, number, tasks = time.monotonic(), 0, set()
            while not self._stop.is_set():
                due = began + number / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.add(asyncio.create_task(self._one(client, number)))
                number += 1
            await asyncio.gather(*tasks)

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        sent: list[float] = []

        async def note(event: str, details: dict[str, Any]) -> None:
            if event == "http11.send_request_body.complete":
                sent.append(time.monotonic())

        try:
            answer = await client.post("/v1/predict", json=self.body(number), extensions={"trace": note})
        except httpx.TransportError as error:
            self.lost.append(Lost(sent[-1] if sent else None, time.monotonic(), repr(error)))
            return
        self.answers.append(Answered(number, answer.status_code, answer.json(), time.monotonic()))


@contextmanager
def open_loop(url: str, body: Body, rate: float) -> Iterator[OpenLoop]:
    """Ask for as long as the block lasts; afterwards every request has been answered or is lost."""
    load = OpenLoop(url, body, rate)
    thread = threading.Thread(target=load.run, daemon=True)
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()
