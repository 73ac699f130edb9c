"""What is known of one request while it is answered, for whoever guards the door or keeps account."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from serving.models import ServedModel

Header = tuple[bytes, bytes]
MadeOf = tuple[UUID, datetime | None, Mapping[str, Any], Sequence[float]]
"""Entity, event time where one is known, feature vector, score: references, nobody may change what they name."""
JSON = b"application/json"
_clock = time.perf_counter
_process, _numbers = secrets.token_hex(6), itertools.count(1)
_fit_for_a_log = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


class Caller(Protocol):
    """Whose key came with a request."""

    name: str

    def allows(self, use_case: str) -> bool:
        """Whether this caller may use a use case."""

    def require(self, use_case: str) -> None:
        """Let this caller use a use case.

        Raises:
            PlatformError: The key is not for it.
        """


class Call:
    """One request. Everything but what it came with is filled in on the way.

    Args:
        route: Pattern of its path, as in `/v1/predict`.
        headers: Of the request, names in lower case.
        query: What stands after the question mark, as it came.
    """

    __slots__ = (
        "answer_headers", "began", "bytes_held", "bytes_in", "bytes_out", "cached", "caller", "encoded", "fallback",
        "headers", "held", "id", "made_of", "media_type", "model", "parsed", "problem", "query", "region", "route",
        "rows", "scored", "status", "use_case", "variant",
    )  # fmt: skip

    def __init__(self, route: str, headers: Sequence[Header] = (), query: bytes = b"") -> None:
        self.route = route
        self.headers = headers
        self.query = query
        self.began = _clock()
        """Seconds of `time.perf_counter`, like the moments below; those are 0 for a stage that was not reached."""
        self.id = ""
        """The caller's `x-request-id` where that is fit for a log, else one of our own."""
        self.caller: Caller | None = None
        self.use_case = ""
        self.region = ""
        self.model: ServedModel | None = None
        """Which model answered,"""
        self.variant = "champion"
        """and as what: champion or canary."""
        self.made_of: MadeOf | None = None
        """What a single prediction was made of."""
        self.rows = 1
        self.cached: bool | None = None
        self.fallback = False
        self.parsed = 0.0
        """When the body had been read and parsed,"""
        self.encoded = 0.0
        """when the vector was at hand and encoded,"""
        self.scored = 0.0
        """and when the score was there, from the cache or the model."""
        self.media_type = JSON
        """Of the answer."""
        self.answer_headers: Sequence[Header] = ()
        """Further headers of the answer, unless it is a problem."""
        self.status = 0
        self.problem = ""
        """Slug of the problem it ended with."""
        self.held = 0
        """Bytes of room it takes up among the requests of its route, where those are counted."""
        self.bytes_in = 0
        self.bytes_held = 0
        """Of the body, as long as it counts against the room for bodies."""
        self.bytes_out = 0

    def allow(self, use_case: str) -> None:
        """Hold the caller's key against the use case of the request.

        Raises:
            PlatformError: The key is not for it.
        """
        if self.caller is not None:
            self.caller.require(use_case)

    def sees(self, use_case: str) -> bool:
        """Whether the caller is told of a use case."""
        return self.caller is None or self.caller.allows(use_case)

    def mark_parsed(self) -> None:
        """The body has been read and parsed."""
        self.parsed = _clock()

    def mark_encoded(self) -> None:
        """The vector is at hand and encoded."""
        self.encoded = _clock()

    def mark_scored(self) -> None:
        """The score is there."""
        self.scored = _clock()


class Guard(Protocol):
    """Decides who comes in, before the body is read."""

    def admit(self, call: Call) -> None:
        """Let a request in, and note its caller.

        Raises:
            PlatformError: It is not let in.
        """


class Observer(Protocol):
    """Keeps account of answered requests. Called on the event loop, so it must be quick; it must not raise."""

    def answered(self, call: Call) -> None:
        """The answer has been handed to the server."""


def request_id(value: bytes | None) -> str:
    """The id of a request: what its caller sent, where that may stand in a log, else a new one.

    >>> request_id(b"order-17")
    'order-17'
    >>> request_id(b"a\\nb") == request_id(None)
    False
    """
    if value is not None and _fit_for_a_log(value):
        return value.decode()
    return f"{_process}-{next(_numbers):x}"
