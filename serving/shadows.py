"""Shadows: challengers that score what the champion has answered, unseen, and never in the way of an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from mage_platform.errors import FeaturesInvalid, Unavailable
from serving.calls import Call
from serving.jvm import Score
from serving.models import ServedModel
from serving.scorer import Scorer
from serving.variants import Challenge

log = structlog.get_logger()
MOST_WAITING = 256
MOST_AT_ONCE = 16
"""Rows a shadow scores before the next look at what waits, so that a champion's batch waits for no longer one."""

OnShadow = Callable[[Call, ServedModel, Score], None]
"""Gets the answered request (with `model` and `made_of` of the champion), the shadow, and its score."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: Call
    model: ServedModel
    features: Mapping[str, Any]


class Shadows:
    """Scores beside the answers. Used from the event loop alone.

    Args:
        scorer: Runs the models.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.observers: list[OnShadow] = []
        """Told of each pair, on the event loop: they must be quick and must not raise."""
        self.scored = 0
        """Rows that were scored,"""
        self.dropped = 0
        """that were left out because the shadow was behind,"""
        self.failed = 0
        """and that it could not take or score, since the start."""
        self._scorer = scorer
        self._waiting: deque[_Waiting] = deque()
        self._busy = False
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, challenge: Challenge, call: Call, entity_id: UUID, features: Mapping[str, Any]) -> None:
        """Let a shadow score what is being answered, when the entity is one of its share. Costs the answer an append.

        Args:
            challenge: A loaded challenger.
            call: The request.
            entity_id: Whose prediction.
            features: The vector that the champion scored.
        """
        if challenge.is_canary or not challenge.takes(entity_id):
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(_Waiting(call, challenge.model, features))
        if not self._busy:
            self._busy = True
            task = asyncio.get_running_loop().create_task(self._work_off())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # first the answers that are ready to be written
                some = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
                await asyncio.gather(*map(self._score, some))
        finally:
            self._busy = False

    async def _score(self, waiting: _Waiting) -> None:
        model, call = waiting.model, waiting.call
        try:
            score = await self._scorer.submit(model.lane, model.row(waiting.features, call.region))
        except Unavailable:
            self.dropped += 1
            return
        except Exception as error:  # the edge: whatever a shadow does, nobody waits for it
            self._note_failure(model, error)
            return
        self.scored += 1
        for observer in self.observers:
            observer(call, model, score)

    def _note_failure(self, model: ServedModel, error: Exception) -> None:
        self.failed += 1
        version = model.version
        # Once for each version: a schema that has changed fails every row alike.
        if version.mojo_sha256 not in self._told:
            self._told.add(version.mojo_sha256)
            # What does not fit is named by its field, never by its value.
            reason = f"{error.field} does not fit" if isinstance(error, FeaturesInvalid) else str(error)
            log.warning(
                "shadow did not score", use_case=version.use_case, region=version.region, version=version.version,
                reason=reason,
            )  # fmt: skip
