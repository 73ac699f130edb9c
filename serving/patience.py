"""How long a client may take to send its body, and the sidecar to answer it.

One timer looks after all requests together: a timer for each costs more than parsing the request does.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """Ends what lasts too long: what is awaited in a `with` block of it. At most one such block at a time in a task.

    Args:
        seconds: How long it may last; up to a quarter more before it is noticed. Then the block raises TimeoutError.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[Any] | None, float] = {}
        self._ended: set[asyncio.Task[Any] | None] = set()
        self._looks = False

    def __enter__(self) -> None:
        self._since[current_task()] = monotonic()
        if not self._looks:
            self._looks = True
            self._look_later()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = current_task()
        del self._since[task]
        if self._ended and task in self._ended:
            self._ended.remove(task)
            if kind is asyncio.CancelledError and task is not None:
                task.uncancel()
                raise TimeoutError from None

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives.

        Raises:
            TimeoutError: It lasted too long and was cancelled.
        """
        with self:
            return await work

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.seconds / 4, self._look)

    def _look(self) -> None:
        now = monotonic()
        for task, since in self._since.items():
            if now - since > self.seconds and task is not None and task not in self._ended:
                self._ended.add(task)
                task.cancel()
        self._looks = bool(self._since)
        if self._looks:
            self._look_later()
