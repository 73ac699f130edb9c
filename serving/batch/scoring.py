"""Scoring of many rows at once: in an executor of its own, block by block, several blocks of a batch side by side."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from weakref import WeakKeyDictionary

import numpy as np

from serving.batch.columns import Floats
from serving.jvm import Slot
from serving.models import ServedModel

BLOCK_ROWS = 2_048
"""Rows of one call into the JVM. A small batch waits for a block of a large one at most, some ten milliseconds."""
NICENESS = 10


class BatchScorer:
    """The executor of batches. Used from the event loop alone.

    Args:
        threads: Blocks that are scored side by side.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="batch-inference", initializer=_step_back)
        self._slots: WeakKeyDictionary[ServedModel, deque[Slot]] = WeakKeyDictionary()

    def close(self) -> None:
        """Wait for the blocks under way and end the threads."""
        self._executor.shutdown(wait=True)

    async def score(self, model: ServedModel, rows: Floats) -> Floats:
        """Predictions of encoded rows, in their order.

        Args:
            model: Scores them.
            rows: One row of float64 each, in C order.

        Returns:
            A `Score` for each row.

        Raises:
            ArithmeticError: The model's code failed on one of the rows.
        """
        scores = np.empty((len(rows), model.mojo.prediction_width))
        slots = self._slots.setdefault(model, deque())
        begins = iter(range(0, len(rows), BLOCK_ROWS))

        async def work() -> None:
            loop = asyncio.get_running_loop()
            for begin in begins:
                block, into = rows[begin : begin + BLOCK_ROWS], scores[begin : begin + BLOCK_ROWS]
                await loop.run_in_executor(self._executor, copy_context().run, _score, model, slots, block, into)

        await asyncio.gather(*(work() for _ in range(min(self._threads, -(-len(rows) // BLOCK_ROWS)))))
        return scores


def _step_back() -> None:
    """Let the threads of single predictions go first where cores are few. Linux keeps a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _score(model: ServedModel, slots: deque[Slot], block: Floats, into: Floats) -> None:
    """In the executor's thread. There are never more slots than threads."""
    try:
        slot = slots.pop()
    except IndexError:
        slot = model.mojo.slot(BLOCK_ROWS)
    try:
        found = slot.score_block(block.reshape(-1).view(np.uint8).data, len(block))
    finally:
        slots.append(slot)
    into[:] = np.frombuffer(found, np.float64).reshape(into.shape)
