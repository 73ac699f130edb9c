"""How much the sidecar takes on at once, so that too much is refused at once rather than answered too late."""

from __future__ import annotations

import time

import structlog

from serving.calls import Call
from serving.refusals import Overloaded

log = structlog.get_logger()
TELL_SECONDS = 5.0


class Room:
    """Counts what is under way. Used from the event loop alone.

    Args:
        requests: Most requests that are answered at the same time, from when their body is there.
        body_bytes: Most memory for bodies that come in several parts, from their first byte until they are answered.
    """

    def __init__(self, requests: int = 4_000, body_bytes: int = 512 << 20) -> None:
        self.requests = requests
        self.under_way = 0
        self.reading = 0
        """Requests whose body is waited for."""
        self.turned_away = 0
        """Requests refused for lack of room, since the start."""
        self._bytes = 0
        self._body_bytes = body_bytes
        self._refused = 0
        self._told = -TELL_SECONDS

    def enter(self) -> None:
        """One more request is answered; `leave` must follow.

        Raises:
            Overloaded: That would be too many.
        """
        if self.under_way >= self.requests:
            raise Overloaded(f"{self.under_way} requests are being answered, and no more at a time: try again later")
        self.under_way += 1

    def leave(self) -> None:
        """It is answered."""
        self.under_way -= 1

    def hold(self, call: Call, amount: int) -> None:
        """Keep more of a body; `release` must follow.

        Raises:
            Overloaded: The bodies of all requests together take too much memory.
        """
        if self._bytes + amount > self._body_bytes:
            raise Overloaded(f"the bodies under way fill the {self._body_bytes} bytes kept for them: try again later")
        self._bytes += amount
        call.bytes_held += amount

    def release(self, call: Call) -> None:
        """The body of a request is needed no more."""
        self._bytes -= call.bytes_held
        call.bytes_held = 0

    def refused(self) -> None:
        """Count a request that was refused for lack of room; said in the log together with the others."""
        self._refused += 1
        self.turned_away += 1
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            log.warning("requests refused for lack of room", requests=self._refused, under_way=self.under_way)
            self._refused, self._told = 0, now


class Berths:
    """Counts the requests of one route that take much memory, from before their body is read until they are answered.

    Used from the event loop alone.

    Args:
        body_bytes: Of all their bodies together.
        requests: At once.
    """

    def __init__(self, body_bytes: int, requests: int) -> None:
        self._body_bytes, self._requests = body_bytes, requests
        self.bytes = 0
        """Taken up at the moment."""
        self.under_way = 0
        """Requests at the moment."""

    def take(self, length: int) -> int:
        """Make room for a body; `give_back` must follow.

        Args:
            length: Its bytes; more than 0.

        Returns:
            What is to be given back.

        Raises:
            Overloaded: There is none at the moment.
        """
        full = self.under_way >= self._requests or (self.under_way and self.bytes + length > self._body_bytes)
        if full:
            raise Overloaded(
                f"{self.under_way} such requests with {self.bytes} bytes are under way already: try again in a second"
            )
        self.under_way += 1
        self.bytes += length
        return length

    def give_back(self, length: int) -> None:
        """The request is answered."""
        self.under_way -= 1
        self.bytes -= length
