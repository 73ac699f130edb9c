"""When the cache is worth asking.

`always` asks for every request, `off` for none. `adaptive` asks while that is expected to be the quicker way: while
a read takes less time than the model spends on a row, times the share of reads that find something. Both times are
measured live. A tree ensemble spends microseconds on a row and a read takes a hundred of them, so that adaptive leaves
the cache out for most models. Whatever the times, one key in thirty-two goes through the cache, always the same ones:
they keep the measurements alive, and their share of hits stands for all keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from mage_platform.contracts.models import CachePolicy

SAMPLED_SHARE = 1 / 32
_WEIGHT = 0.02


@dataclass(slots=True)
class HitShare:
    """How often a read of one model's keys finds something."""

    value: float = 0.5
    """Moving average; of the sampled keys alone while the others are left out."""

    def observe(self, *, hit: bool) -> None:
        """Note what a read found."""
        self.value += (hit - self.value) * _WEIGHT


def takes_part(policy: CachePolicy, key: str, *, hit_share: float, read_seconds: float, score_seconds: float) -> bool:
    """Whether the cache is read, and written after a miss, for this key.

    Args:
        policy: The setting.
        key: Cache key; it ends in hexadecimal digits of the vector's digest.
        hit_share: Share of reads that find something, 0 to 1.
        read_seconds: How long a read takes; 0 when not yet measured.
        score_seconds: How long the model takes for a row; 0 when not yet measured.

    >>> takes_part("adaptive", "pred:ff", hit_share=0.5, read_seconds=1e-4, score_seconds=1e-3)
    True
    >>> takes_part("adaptive", "pred:ff", hit_share=0.5, read_seconds=1e-4, score_seconds=2e-5)
    False
    """
    if policy != "adaptive":
        return policy == "always"
    if int(key[-2:], 16) < 256 * SAMPLED_SHARE:
        return True
    return 0 < read_seconds < score_seconds * hit_share
