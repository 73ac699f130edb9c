"""Waiting for a model that is known and not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

from mage_platform.errors import Unavailable

LONGEST_WAIT_SECONDS = 5.0
T = TypeVar("T")


class ModelNotInMemory(Unavailable):
    """A model is being loaded, and the request has to wait for it.

    Args:
        message: Which one.
        loaded: Done when the model is in memory, or cannot be.
    """

    def __init__(self, message: str, loaded: Future[None]) -> None:
        super().__init__(message)
        self.loaded = loaded


async def once_in_memory(ask: Callable[[], Awaitable[T]], absent: ModelNotInMemory) -> T:
    """Ask again when the model is there; the loop is free meanwhile.

    Args:
        ask: Gives what is wanted, or raises `ModelNotInMemory`, as it has done.
        absent: That error.

    Raises:
        ModelNotInMemory: It takes longer than a request should wait.
        PlatformError: The model cannot be loaded.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGEST_WAIT_SECONDS
    while (left := until - loop.time()) > 0:
        # Shielded: others wait for the same loading.
        loading = asyncio.shield(asyncio.wrap_future(absent.loaded))
        try:
            await asyncio.wait_for(loading, left)
        except TimeoutError:
            break
        try:
            return await ask()
        except ModelNotInMemory as error:  # loaded, and pushed out again by others before it was this one's turn
            absent = error
    raise absent
