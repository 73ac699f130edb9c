"""When the cache is worth asking, and what asking it found, for each model.

`always` asks for every request, `off` for none. `adaptive` asks while that is expected to be the quicker way: while
a read takes less time than the model spends on a row, times the share of reads that find something. Both times are
measured live. A tree ensemble spends microseconds on a row and a read takes a hundred of them, so that adaptive leaves
the cache out for most models. Whichever way it decides, it goes on measuring the other: one vector in thirty-two goes
through the cache in any case, always the same ones, so that their share of hits stands for all; and one request in
thirty-two is scored in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from mage_platform.contracts.models import CachePolicy

SAMPLED = 32
"""One in so many vectors, and requests."""
_WEIGHT = 0.02


@dataclass(slots=True)
class CacheUse:
    """What one model makes of the cache. All but the last two are counted since the model was loaded."""

    hits: int = 0
    """Requests whose answer was there."""
    misses: int = 0
    """Requests whose answer was not."""
    joined: int = 0
    """Requests that took part in the look-up, and the scoring, of an equal one that was under way."""
    silent: int = 0
    """Requests for which Redis was asked and did not answer in time."""
    refused: int = 0
    """Values that are none of this model's; a miss as well."""
    left_out: int = 0
    """Requests for which Redis was not asked: by the policy, or because it is left alone for a while."""
    hit_share: float = 0.5
    """Share of answered reads that found something, as a moving average."""
    turn: int = 0
    """Counts the requests up to the next that is scored in any case."""

    def found(self, *, hit: bool) -> None:
        """Note what an answered read found."""
        self.hits += hit
        self.misses += not hit
        self.hit_share += (hit - self.hit_share) * _WEIGHT

    def outcomes(self) -> dict[str, int]:
        """How many requests had which of the five outcomes."""
        return {
            "hit": self.hits,
            "miss": self.misses,
            "joined": self.joined,
            "silent": self.silent,
            "left_out": self.left_out,
        }

    def asks(self, policy: CachePolicy, row: bytes, *, read_seconds: float, score_seconds: float) -> bool:
        """Whether the cache is read, and written after a miss, for this vector.

        Args:
            policy: Of the model.
            row: The encoded vector.
            read_seconds: How long a read takes; 0 when not yet measured.
            score_seconds: How long the model takes for a row; 0 when not yet measured.

        >>> CacheUse().asks("adaptive", b"row", read_seconds=1e-4, score_seconds=1e-3)
        True
        >>> CacheUse().asks("adaptive", b"row", read_seconds=1e-4, score_seconds=2e-5)
        False
        """
        if policy != "adaptive":
            return policy == "always"
        if crc32(row) % SAMPLED == 0:  # the key itself would take five times as long
            return True
        if not 0 < read_seconds < score_seconds * self.hit_share:
            return False
        self.turn = (self.turn + 1) % SAMPLED
        return self.turn != 0
