"""Linear scales of plots, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mage_platform.training.report.formats import MINUS, SPACE

LEAST_SPREAD = 1e-9


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    """In units of the drawing."""
    text: str


@dataclass(frozen=True)
class Scale:
    """From values to places in a drawing.

    Args:
        low: Value at `start`.
        high: Value at `end`.
        start: Place in the drawing.
        end: Place in the drawing.
        ticks: At round values between low and high.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...]

    def __call__(self, value: float) -> float:
        """The place of a value, rounded to a hundredth; what lies outside is drawn at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    @classmethod
    def over(
        cls,
        values: Iterable[float | None],
        start: float,
        end: float,
        *,
        most_ticks: int = 5,
        percent: bool = False,
        rounded: bool = True,
    ) -> Scale:
        """A scale that holds all the values.

        Args:
            values: What will be drawn; None is left out.
            start: Place of the least value.
            end: Place of the greatest.
            most_ticks: About how many ticks at most.
            percent: Whether values are shares, written as percents.
            rounded: Whether it begins and ends at a tick; otherwise a little room is left.
        """
        known = [value for value in values if value is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        if high - low < LEAST_SPREAD * max(1.0, abs(high)):
            room = abs(high) / 10 or 1.0
            low, high = low - room, high + room
        step = _round_step((high - low) / most_ticks)
        if rounded:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        else:
            room = (high - low) * 0.06
            low, high = low - room, high + room
        bare = cls(low, high, start, end, ())
        marks = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        ticks = tuple(Tick(bare(mark * step), _tick_text(mark * step, step, percent=percent)) for mark in marks)
        return cls(low, high, start, end, ticks)


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... and their tenths."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _tick_text(value: float, step: float, *, percent: bool) -> str:
    if percent:
        value, step = value * 100, step * 100
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{value:,.{decimals}f}"
    if text.strip("-0.,") == "":
        text = text.lstrip("-")
    return text.replace("-", MINUS) + (f"{SPACE}%" if percent else "")
