"""How long a client may take to send its body, and the sidecar to answer it.

One timer looks after all requests together: a timer for each costs more than parsing the request does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """Ends what lasts too long.

    Args:
        seconds: How long it may last; up to a quarter more before it is noticed.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._looks = False

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives. At most one at a time in a task.

        Raises:
            TimeoutError: It lasted too long and was cancelled.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._since[task] = loop.time()
        if not self._looks:
            self._looks = True
            loop.call_later(self.seconds / 4, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            del self._since[task]
            self._ended.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, since in self._since.items():
            if now - since > self.seconds and task not in self._ended:
                self._ended.add(task)
                task.cancel()
        self._looks = bool(self._since)
        if self._looks:
            loop.call_later(self.seconds / 4, self._look, loop)
