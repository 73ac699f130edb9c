"""How long a server that fails is left alone."""

from __future__ import annotations

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 16.0


class Pause:
    """A second at first, then twice as long each time. All moments are monotonic seconds."""

    def __init__(self) -> None:
        self._until = 0.0
        self._next = SHORTEST_SECONDS

    def over(self, now: float) -> bool:
        """Whether it may be asked."""
        return now >= self._until

    def begin(self, now: float) -> float:
        """Leave it alone from now on; returns for how many seconds."""
        seconds, self._next = self._next, min(self._next * 2, LONGEST_SECONDS)
        self._until = now + seconds
        return seconds

    def reset(self) -> None:
        """It works: the next pause is a short one."""
        self._next = SHORTEST_SECONDS
