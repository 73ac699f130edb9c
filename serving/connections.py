"""Connections whose clients are slow, or too many, or send no HTTP: cut off, so that they hold nothing for long.

The server itself waits without end for the rest of a header, and for a client to take its answer. One look over all
connections, a few times within their patience, finds those: a timer for each request would cost all the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.problems import MEDIA_TYPE, problem_of, problem_of_status
from serving.refusals import Overloaded
from serving.room import Room

log = structlog.get_logger()
LOOKS = 4
"""Looks within the time that a client has."""
PROGRESS_BYTES = 64 << 10
"""What a client must take of its answer within that time."""


@dataclass(frozen=True)
class Limits:
    """What a client may do.

    Args:
        connections: Open at the same time; one more is refused.
        patience_seconds: For its headers, and for a part of its answer. A body gets twice as long here: whoever reads
            it looks after its time.
        keep_alive_seconds: Between an answer and the next request.
        header_bytes: Of one request.
    """

    connections: int = 10_000
    patience_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    header_bytes: int = 64 << 10


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    limits: ClassVar[Limits]
    room: ClassVar[Room]
    lookout: ClassVar[Lookout]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_bytes, self._since = 0, 0.0
        self._waits_for = ""
        self._mark: Any = None
        self._header_of: Any = None
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.lookout.count("too many")
            return self._end(503, "too many connections are open: try again in a second", b"retry-after: 1\r\n")
        return self.lookout.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A client has sent something."""
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            self._count_headers(len(data))

    def look(self, now: float) -> None:
        """Cut the client off when it makes no progress since long.

        Args:
            now: Seconds of the loop's clock.
        """
        what, mark = self._state()
        moved = mark <= self._mark - PROGRESS_BYTES if what == self._waits_for == "answer" else mark is not self._mark
        if what != self._waits_for or moved:
            self._waits_for, self._mark, self._since = what, mark, now
        elif what and now - self._since > self._time_for(what):
            if what != "idle":
                self.lookout.count(what)
            if what == "header" and mark is not None and not self.transport.is_closing():
                self._end(408, f"the headers did not arrive within {self.limits.patience_seconds:g} seconds")
            else:
                self._forget()
                self.transport.abort()

    def on_response_complete(self) -> None:
        """An answer is written: as the server does it, but for the timer it sets, and takes back, for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        while self.pipeline:
            cycle, application = self.pipeline.pop()
            self._start_asgi_task(cycle, application)
            if not cycle.response_complete:  # it was not turned away
                break

    def send_400_response(self, msg: str) -> None:
        """What was sent is no HTTP."""
        self._end(400, "what was sent is not a request of HTTP/1.1")

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as if it had not asked for another protocol."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        room = self.room
        if len(self.tasks) - room.reading >= room.requests and cycle.scope["method"] == "POST":
            return self._turn_away(cycle)
        if cycle.scope["method"] == "POST":
            cycle.transport = _HeadWithBody(self.transport)
        self._answering = cycle
        return super()._start_asgi_task(cycle, app)

    def _turn_away(self, cycle: RequestResponseCycle) -> None:
        """Refuse a request for lack of room, before anything is done for it: otherwise refusing would cost as much as
        answering, and too many requests would leave no time for the others."""
        self.room.refused()
        cycle.response_started = cycle.response_complete = True
        cycle.more_body = False  # what is left of it is thrown away
        self.transport.write(_TURNED_AWAY if cycle.keep_alive else _TURNED_AWAY_CLOSING)
        if not cycle.keep_alive:
            self.transport.close()
        self.server_state.total_requests += 1

    def _forget(self) -> None:
        """Whoever writes an answer stops, rather than fails; with requests sent ahead it is not the last one's."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _state(self) -> tuple[str, Any]:
        """What is waited for, and what changes as soon as it comes; nothing while it is not the client's turn."""
        if unsent := self.transport.get_write_buffer_size():
            return "answer", unsent
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return "header", self.scope
        if not cycle.response_complete:
            return ("body", cycle) if cycle.more_body and not cycle.response_started else ("", None)
        # Answered before its body was there: that may still come in, and is thrown away.
        return "rest" if cycle.more_body else "idle", cycle

    def _time_for(self, what: str) -> float:
        if what == "idle":
            return self.limits.keep_alive_seconds
        return self.limits.patience_seconds * (2 if what == "body" else 1)

    def _count_headers(self, received: int) -> None:
        if self._header_of is not self.scope:  # how much of what was received is of this header is not known
            self._header_bytes, self._header_of = 0, self.scope
            return
        self._header_bytes += received
        if self._header_bytes > self.limits.header_bytes and not self.transport.is_closing():
            self.lookout.count("long header")
            self._end(431, f"the headers are longer than the {self.limits.header_bytes} bytes that are read")

    def _end(self, status: int, detail: str, more: bytes = b"") -> None:
        """Say why, and close."""
        self.transport.write(_written(status, problem_of_status(status, detail), b"connection: close\r\n" + more))
        self.transport.close()


class _HeadWithBody(asyncio.Transport):
    """Writes the head of an answer together with the first part of its body: the server hands over one, then the other,
    and each would be a call of the system, which costs more than all that a prediction does in Python.

    Only where every answer has a body, if an empty one: without it the head is not written.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: Any) -> None:
        """Write, or keep a head until its body comes."""
        head = self._head
        if head:
            self._head = b""
            self._transport.write(head + data)
        elif head is None and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Write what was kept, and close."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()


class Lookout:
    """Looks over all connections of a server.

    Args:
        limits: What a client may do.
    """

    def __init__(self, limits: Limits) -> None:
        self._pause = limits.patience_seconds / LOOKS
        self._looks = False
        self._cut_off: Counter[str] = Counter()

    def begin(self, connection: Connection) -> None:
        """See to it that the connections are looked over from now on."""
        if not self._looks:
            self._looks = True
            connection.loop.call_later(self._pause, self._look, connection)

    def count(self, why: str) -> None:
        """Count a client that is cut off, or not let in."""
        self._cut_off[why] += 1

    def _look(self, any_connection: Connection) -> None:
        loop, connections = any_connection.loop, list(any_connection.connections)
        now = loop.time()
        for connection in connections:
            if isinstance(connection, Connection):
                connection.look(now)
        if self._cut_off:
            why = {name.replace(" ", "_"): count for name, count in sorted(self._cut_off.items())}
            log.warning("clients cut off", connections=len(connections), **why)
            self._cut_off.clear()
        self._looks = bool(connections)
        if self._looks:
            loop.call_later(self._pause, self._look, any_connection)


def connection_kind(limits: Limits, room: Room) -> type[Connection]:
    """The protocol for a server with these limits.

    Args:
        limits: What a client may do.
        room: How much is taken on at once; the same that the front door counts in.
    """
    return type("Connection", (Connection,), {"limits": limits, "room": room, "lookout": Lookout(limits)})


def _written(status: int, body: bytes, more: bytes) -> bytes:
    head = (
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nx-content-type-options: nosniff\r\n"
        "cache-control: no-store\r\n"
    )
    return STATUS_LINE[status] + head.encode() + more + b"\r\n" + body


# All alike, so it is written once.
_overloaded = problem_of(Overloaded("as many requests are being answered as there is room for: try again later"))[2]
_TURNED_AWAY = _written(503, _overloaded, b"retry-after: 1\r\n")
_TURNED_AWAY_CLOSING = _written(503, _overloaded, b"retry-after: 1\r\nconnection: close\r\n")
