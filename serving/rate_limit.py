"""A limit on requests a second, as a bucket that fills with tokens: each request takes one."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Bucket:
    """The tokens of one caller. Used from the event loop alone, so it needs no lock.

    Args:
        per_second: Tokens that come in a second.
        burst: Most tokens it holds; it begins full.
        clock: Monotonic seconds.
    """

    __slots__ = ("_at", "_clock", "_tokens", "burst", "per_second")

    def __init__(self, per_second: float, burst: int, clock: Clock = time.monotonic) -> None:
        self.per_second = per_second
        self.burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Take a token.

        Returns:
            0 when there was one, else the seconds until there is; then none was taken.
        """
        now = self._clock()
        tokens = self._tokens + (now - self._at) * self.per_second
        if tokens > self.burst:
            tokens = self.burst
        self._at = now
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self.per_second


def bucket(per_second: float | None, burst: int | None) -> Bucket | None:
    """A bucket; None where there is no limit. Without a burst it holds what a second brings, and at least one."""
    return None if per_second is None else Bucket(per_second, burst or max(1, round(per_second)))
