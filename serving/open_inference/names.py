"""Names of models in the protocol: use case and region in one word that stands in a URL as it is."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from mage_platform.contracts import POOLED

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")


def model_name(use_case: str, region: str) -> str:
    """The name of the model that answers for a region.

    The use case, a dot, and the region, in which every byte of UTF-8 that is no letter, digit, dot, hyphen or
    underscore is written as `~` and two hexadecimal digits. The model of all regions together is named like the use
    case alone.

    >>> model_name("flight_delays", "JFK"), model_name("rides", "São Paulo"), model_name("rides", "*")
    ('flight_delays.JFK', 'rides.S~C3~A3o~20Paulo', 'rides')
    """
    if region == POOLED:
        return use_case
    escaped = _UNSAFE.sub(lambda found: b"~%02X" % found[0][0], region.encode())
    return f"{use_case}.{escaped.decode()}"


def named(name: str) -> tuple[str, str]:
    """Use case and region of a name. Characters that need no escape in the address at hand may stand as they are.

    >>> named("rides.S~C3~A3o~20Paulo"), named("rides.São Paulo"), named("rides"), named("rides.St. Louis")
    (('rides', 'São Paulo'), ('rides', 'São Paulo'), ('rides', '*'), ('rides', 'St. Louis'))
    """
    use_case, dot, region = name.partition(".")
    if not dot:
        return use_case, POOLED
    # A percent sign stands for itself here: the address was decoded already.
    return use_case, unquote_to_bytes(region.replace("%", "%25").replace("~", "%")).decode(errors="replace")
