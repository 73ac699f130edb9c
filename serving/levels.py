"""The levels of a category a model knows, for the refusal of one it does not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from difflib import get_close_matches

MOST_NAMED = 5
_MOST_COMPARED = 32
_LONGEST = 40


class Levels:
    """The known levels of one category.

    Args:
        levels: In the order of their codes.
    """

    def __init__(self, levels: Sequence[str]) -> None:
        self._known = frozenset(levels)
        self._sorted = sorted(levels)

    def __contains__(self, level: str) -> bool:
        return level in self._known

    def rule(self, level: str) -> str:
        """What an unknown level breaks: names the nearest known levels first, and how many more there are.

        >>> Levels(["UA", "AA", "B6"]).rule("uA")
        "must be a level the model knows: 'UA', 'AA', 'B6'"
        """
        if not self._sorted:
            return "must be a level the model knows; it knows none"
        nearest = self._nearest(level[:_LONGEST])
        named = ", ".join(repr(each[:_LONGEST]) for each in nearest)
        more = len(self._sorted) - len(nearest)
        return f"must be a level the model knows: {named}" + (f" and {more} more" if more else "")

    def _nearest(self, level: str) -> list[str]:
        # Of many levels only the neighbours in the alphabet are compared: a comparison takes about ten microseconds.
        at = bisect_left(self._sorted, level)
        start = max(0, min(at - _MOST_COMPARED // 2, len(self._sorted) - _MOST_COMPARED))
        compared = self._sorted[start : start + _MOST_COMPARED]
        return get_close_matches(level, compared, n=MOST_NAMED, cutoff=0.0)
