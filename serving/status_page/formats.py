"""Numbers and spans of time as the page writes them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"
NONE = "\N{EN DASH}"
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def count(value: int) -> str:
    """A whole number.

    >>> count(17447)
    '17,447'
    """
    return f"{value:,}".replace("-", MINUS)


def amount(value: float) -> str:
    """A number with four significant digits, or four decimals below one.

    >>> amount(0.70012), amount(1234.5678), amount(12.0), amount(-0.05)
    ('0.7001', '1,235', '12.00', '−0.0500')
    """
    decimals = 4 if abs(value) < 1 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share.

    >>> percent(0.18512), percent(1.0), percent(0.0)
    ('18.5\u202f%', '100\u202f%', '0\u202f%')
    """
    text = f"{100 * share:.1f}"
    return f"{text.removesuffix('.0')}{SPACE}%"


def limit(value: float) -> str:
    """An end of a range, as short as it can be told.

    >>> limit(12.0), limit(6000.0), limit(-0.25), limit(1e21)
    ('12', '6,000', '−0.25', '1e+21')
    """
    text = f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)
    return text.replace("-", MINUS) if "e" not in text else text


def age(since: datetime, now: datetime) -> str:
    """How long ago something was, in its largest unit.

    >>> age(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, 23, tzinfo=UTC))
    '2 days'
    >>> age(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
    '1 hour'
    """
    seconds = max(0.0, (now - since).total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            number = int(seconds // size)
            return f"{number:,} {unit}{'s' if number > 1 else ''}"
    return "less than a second"


def moment(value: datetime) -> str:
    """A moment, in UTC.

    >>> moment(datetime(2013, 11, 1, 4, 30, tzinfo=UTC))
    '2013-11-01 04:30 UTC'
    """
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
