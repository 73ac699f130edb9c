"""How much may be under way at once of what takes much memory."""

from __future__ import annotations

from mage_platform.errors import SidecarUnavailable


class RoomFull(SidecarUnavailable):
    """As many requests as there is room for are under way. The caller may come again in a moment.

    Args:
        message: What is under way.
    """

    retry_after_seconds = 1.0


class Room:
    """Counts the bodies under way, from before they are read until they are answered. Used from the event loop alone.

    Args:
        maximum_bytes: Of all bodies together.
        maximum_requests: At once.
    """

    def __init__(self, maximum_bytes: int, maximum_requests: int) -> None:
        self._maximum_bytes, self._maximum_requests = maximum_bytes, maximum_requests
        self.bytes = 0
        """Taken up at the moment."""
        self.requests = 0
        """Under way at the moment."""

    def take(self, length: int) -> int:
        """Make room for a body.

        Args:
            length: Its bytes; more than 0.

        Returns:
            What is to be given back.

        Raises:
            RoomFull: There is none at the moment.
        """
        if self.requests >= self._maximum_requests or (self.requests and self.bytes + length > self._maximum_bytes):
            raise RoomFull(
                f"{self.requests} batches with {self.bytes} bytes are under way already: try again in a second"
            )
        self.requests += 1
        self.bytes += length
        return length

    def give_back(self, length: int) -> None:
        """The request is answered."""
        self.requests -= 1
        self.bytes -= length
