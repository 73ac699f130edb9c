"""How a body is waited for, below HTTP: the very function the sidecar reads with."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serving import front_door
from serving.calls import Call
from serving.patience import Patience
from serving.time_limit import in_time


def answered(messages: list[dict[str, Any]], patience_seconds: float = 30.0) -> list[Any]:
    """What the sidecar sends to a client that sends these messages and then nothing more."""
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer(body: bytes, call: Call) -> bytes:
        return body.upper()

    door, route = front_door.FrontDoor(patience_seconds=patience_seconds), front_door.Route("/upper", answer)
    asyncio.run(door.respond({"headers": [(b"content-length", b"6")]}, receive, send, route))
    return sent


@pytest.mark.parametrize("messages", [[], [{"type": "http.request", "body": b"abc", "more_body": True}]])
def test_a_body_that_stops_coming_is_answered_and_the_connection_closed(messages: list[dict[str, Any]]) -> None:
    start, body = answered(messages, patience_seconds=0.01)
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["type"] == "urn:problem:mage-platform:body-too-slow"


def test_an_answer_that_takes_too_long_is_given_up_and_may_be_asked_for_again() -> None:
    sent: list[Any] = []
    ended: list[str] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"abc"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer(body: bytes, call: Call) -> bytes:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return body

    route = front_door.Route("/slow", in_time(answer, 0.01))
    asyncio.run(front_door.FrontDoor().respond({"headers": []}, receive, send, route))
    start, body = sent
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["type"] == "urn:problem:mage-platform:answer-too-slow"
    assert "0.01 seconds" in json.loads(body["body"])["detail"]
    assert ended == ["cancelled"]


def test_a_body_in_parts_is_put_together() -> None:
    start, body = answered(
        [
            {"type": "http.request", "body": b"abc", "more_body": True},
            {"type": "http.request", "body": b"def", "more_body": False},
        ]
    )
    assert (start["status"], body["body"]) == (200, b"ABCDEF")


def test_a_request_that_is_cancelled_by_others_stays_cancelled() -> None:
    async def cancelled() -> bool:
        waiting = asyncio.create_task(Patience(60).wait_for(asyncio.sleep(3600)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    assert asyncio.run(cancelled())


def test_the_impatience_with_one_request_leaves_the_others_alone() -> None:
    async def outcomes() -> list[Any]:
        patience = Patience(1.0)

        async def in_time() -> str:
            for _ in range(150):
                await patience.wait_for(asyncio.sleep(0.01))
            return "done"

        return await asyncio.gather(in_time(), patience.wait_for(asyncio.sleep(3600)), return_exceptions=True)

    done, late = asyncio.run(outcomes())
    assert done == "done"
    assert isinstance(late, TimeoutError)
