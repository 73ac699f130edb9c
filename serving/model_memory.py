"""Which models are in memory: bounded in number and bytes, the least used out first.

How much a model is used is a count that halves every ten minutes. So the least recently used goes first among those
that are asked for alike, and a popular one stays when somebody asks for every model once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from serving.models import ServedModel

HALF_LIFE_SECONDS = 600.0

Key = tuple[str, str]
"""Use case and region."""


class ModelMemory:
    """The loaded champions, each with its challenger where it has one.

    Args:
        most_models: Most champions.
        most_bytes: Most bytes of all of them together; one that is greater by itself is kept alone.
    """

    def __init__(self, most_models: int, most_bytes: int) -> None:
        self.models: Mapping[Key, ServedModel] = {}
        """Replaced as a whole, never changed: a reader needs no lock."""
        self.evicted = 0
        """Models that had to make room, since the start."""
        self._most_models = most_models
        self._most_bytes = most_bytes
        self._changing = threading.Lock()

    @property
    def bytes(self) -> int:
        """What the loaded models take."""
        return sum(map(_bytes_of, self.models.values()))

    def has_room(self) -> bool:
        """Whether one more can be loaded without another making room, as far as can be told before."""
        models = self.models
        used = self.bytes
        average = used // len(models) if models else 0
        return len(models) < self._most_models and used + average <= self._most_bytes

    def put(self, key: Key, model: ServedModel, *, heat: float) -> list[Key]:
        """Take a model in, in the place of another version of it, and push out what has no room any more.

        Args:
            key: Use case and region.
            model: The model.
            heat: How much it is used already, unless another version stood there.

        Returns:
            The keys of the models that had to go.
        """
        with self._changing:
            now = time.monotonic()
            models = dict(self.models)
            before = models.get(key)
            model.heat, model.heat_at = heat, now
            if before is not None:
                _cool(before, now)
                model.heat = before.heat
            models[key] = model
            gone = self._make_room(models, key, now)
            self.evicted += len(gone)
            self.models = models
            return gone

    def drop(self, key: Key) -> ServedModel | None:
        """Take a model out."""
        with self._changing:
            model = self.models.get(key)
            if model is not None:
                self.models = {other: kept for other, kept in self.models.items() if other != key}
            return model

    def cool(self) -> None:
        """Let the uses since the last time count as of now, and the older ones for less; to be called now and then."""
        with self._changing:
            now = time.monotonic()
            for model in self.models.values():
                _cool(model, now)

    def by_use(self) -> list[Key]:
        """The loaded models, the most used first."""
        self.cool()
        with self._changing:
            return sorted(self.models, key=lambda key: -self.models[key].heat)

    def _make_room(self, models: dict[Key, ServedModel], newest: Key, now: float) -> list[Key]:
        left, used = len(models), sum(map(_bytes_of, models.values()))
        if left <= self._most_models and used <= self._most_bytes:
            return []
        for model in models.values():
            _cool(model, now)
        gone = []
        for key in sorted((key for key in models if key != newest), key=lambda key: models[key].heat):
            if left <= self._most_models and used <= self._most_bytes:
                break
            left, used = left - 1, used - _bytes_of(models.pop(key))
            gone.append(key)
        return gone


def _bytes_of(model: ServedModel) -> int:
    challenge = model.challenge
    return model.bytes + (challenge.model.bytes if challenge is not None else 0)


def _cool(model: ServedModel, now: float) -> None:
    """Bring the count of uses up to date. A use that the event loop counts at the same moment may be lost."""
    uses, model.uses = model.uses, 0
    model.heat = model.heat * 0.5 ** ((now - model.heat_at) / HALF_LIFE_SECONDS) + uses
    model.heat_at = now
