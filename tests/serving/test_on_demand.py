"""Requests that wait for a model: until it is there, until it cannot be, or until they have waited long enough."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from mage_platform.errors import DatabaseUnavailable
from serving import on_demand
from serving.on_demand import ModelNotInMemory, once_in_memory


def absent(loaded: Future[None]) -> ModelNotInMemory:
    return ModelNotInMemory("version 1 of use case 'u', region 'r' is being loaded", loaded)


def test_a_model_that_made_room_before_it_was_used_is_waited_for_again() -> None:
    turns: list[ModelNotInMemory] = []

    async def ask() -> str:
        if len(turns) < 2:
            again: Future[None] = Future()
            again.set_result(None)
            turns.append(absent(again))
            raise turns[-1]
        return "answer"

    async def scenario() -> None:
        first: Future[None] = Future()
        asyncio.get_running_loop().call_later(0.05, first.set_result, None)
        assert await once_in_memory(ask, absent(first)) == "answer"

    asyncio.run(scenario())
    assert len(turns) == 2


def test_who_has_waited_long_enough_is_told_while_the_loading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "LONGEST_WAIT_SECONDS", 0.05)
    never: Future[None] = Future()

    async def ask() -> str:
        raise AssertionError("it is not there")

    with pytest.raises(ModelNotInMemory, match="is being loaded"):
        asyncio.run(once_in_memory(ask, absent(never)))
    assert not never.cancelled(), "others may wait for it still"


def test_a_model_that_cannot_be_had_is_no_long_wait() -> None:
    failed: Future[None] = Future()
    failed.set_exception(DatabaseUnavailable("PostgreSQL did not answer"))

    async def ask() -> str:
        raise AssertionError("it is not there")

    with pytest.raises(DatabaseUnavailable, match="PostgreSQL"):
        asyncio.run(once_in_memory(ask, absent(failed)))
