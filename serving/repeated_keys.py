"""Keys that one object of a body holds twice.

Readers of JSON disagree about which of the two values counts, so that a service in between may have checked the other.
Pydantic keeps the last one and tells nothing. A request in order has as many colons as fields: only where there are
more is it read a second time, in Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from serving.encoding import Fault
from serving.problems import RequestInvalid


def refuse_repeated(body: bytes) -> None:
    """Refuse a request that holds a field, or a feature, more than once.

    Args:
        body: Valid JSON.

    Raises:
        RequestInvalid: Names them.
    """
    if faults := list(repeated(body)):
        raise RequestInvalid(faults)


def repeated(body: bytes) -> Iterator[Fault]:
    """The fields and features of a request that are given more than once.

    >>> [fault.field for fault in repeated(b'{"region": "a", "features": {"x": 1, "x": 2}, "region": "b"}')]
    ['region', 'features.x']
    """
    yield from _of_request(_read(body))


def repeated_in_rows(body: bytes) -> list[list[Fault]]:
    """The same for each of many rows; the array of them is the body.

    >>> [[fault.field for fault in row] for row in repeated_in_rows(b'[{"a": 1, "a": 2}, {"a": {"x": 1}}]')]
    [['a'], []]
    """
    return [list(_of_request(row)) for row in _read(body)]


def _read(body: bytes) -> Any:
    return json.loads(
        body.decode(), object_pairs_hook=_Pairs, parse_int=_number, parse_float=_number, parse_constant=_number
    )


def _of_request(pairs: Any) -> Iterator[Fault]:
    if not isinstance(pairs, _Pairs):
        return
    yield from _twice(pairs, "")
    for name, value in pairs:
        if isinstance(value, _Pairs):
            yield from _twice(value, f"{name}.")


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written."""


def _number(text: str) -> None:
    """What a number is does not matter here, and one of thousands of digits would take long."""


def _twice(pairs: _Pairs, path: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            yield Fault(f"{path}{name}", "is given more than once", value if isinstance(value, str) else None)
        seen.add(name)
