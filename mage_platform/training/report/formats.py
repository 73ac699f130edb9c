"""Numbers and moments as a page writes them: digits that align, a real minus sign, times in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from mage_platform.contracts.metrics import Metric

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"
SIGNIFICANT = 4


def count(value: int) -> str:
    """A whole number.

    >>> count(17447)
    '17,447'
    """
    return f"{value:,}".replace("-", MINUS)


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with a fixed count of decimals.

    >>> fixed(-0.18512, 4), fixed(0.18512, 2, sign=True), fixed(-0.00001, 2, sign=True)
    ('−0.1851', '+0.19', '0.00')
    """
    value = round(value, decimals)
    if value == 0:
        return f"{0:.{decimals}f}"
    text = f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
    return text.replace("-", MINUS)


def amount(value: float) -> str:
    """A number with four significant digits, and none that say nothing.

    >>> amount(1234.5678), amount(0.0123456), amount(12.0), amount(0.0)
    ('1,235', '0.01235', '12', '0')
    """
    text = fixed(value, decimals_for(value))
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimals_for(value: float) -> int:
    """Decimals that give a number of this size four significant digits.

    >>> decimals_for(3.504), decimals_for(812.0), decimals_for(0.0)
    (3, 1, 0)
    """
    if value == 0 or not math.isfinite(value):
        return 0
    return min(max(SIGNIFICANT - 1 - math.floor(math.log10(abs(value))), 0), 9)


def decimals_of(metric: Metric, values: list[float]) -> int:
    """Decimals for all values of a metric, so that they align: four, or of an error in units of the target fewer."""
    if metric not in ("rmse", "mae"):
        return 4
    return decimals_for(max(values, key=abs, default=1.0))


def percent(share: float, decimals: int = 1) -> str:
    """A share.

    >>> percent(0.18512)
    '18.5\u202f%'
    """
    return f"{fixed(100 * share, decimals)}{SPACE}%"


def moment(value: datetime) -> str:
    """A moment, in UTC.

    >>> moment(datetime(2013, 11, 1, tzinfo=UTC)), moment(datetime(2013, 11, 1, 4, 30, tzinfo=UTC))
    ('2013-11-01', '2013-11-01 04:30 UTC')
    """
    here = value.astimezone(UTC)
    midnight = (here.hour, here.minute, here.second) == (0, 0, 0)
    return here.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M UTC")
