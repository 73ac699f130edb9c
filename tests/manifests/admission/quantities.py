"""Amounts of processor, memory and disk as Kubernetes writes them."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_FACTOR = {
    "": Decimal(1),
    **{f"{sign}i": Decimal(1024) ** power for power, sign in enumerate("KMGTPE", 1)},
    **{sign: Decimal(1000) ** power for power, sign in enumerate("kMGTPE", 1)},
    **{sign: Decimal(1000) ** -power for power, sign in enumerate("mun", 1)},
}


def amount(quantity: object) -> Decimal | None:
    """Cores or bytes; nothing when Kubernetes would refuse the text.

    >>> amount("500m"), amount("4Gi") == 4 * 1024**3, amount("4GB"), amount("1e3")
    (Decimal('0.500'), True, None, Decimal('1000'))
    """
    found = _FORM.fullmatch(str(quantity))
    if found is None or isinstance(quantity, bool):
        return None
    number, suffix = Decimal(found.group(1)), found.group(2) or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        return Decimal(f"{number}{suffix}").quantize(Decimal(1))
    return number * _FACTOR[suffix]
