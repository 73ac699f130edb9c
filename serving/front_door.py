"""The request path below the framework: the body is read once as bytes and answered as bytes.

FastAPI's own work for a request (dependency resolution, exit stacks, response models) costs several times what a
prediction does, and a prediction needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.types import Message, Receive, Scope, Send

from serving.calls import JSON, Call, Guard, Header, Observer, request_id
from serving.encoding import Fault
from serving.on_demand import ModelNotInMemory, once_in_memory
from serving.patience import Patience
from serving.problems import MEDIA_TYPE, BodyNotJson, BodyTooLarge, BodyTooSlow, problem_of
from serving.refusals import KeyRefused, Overloaded
from serving.room import Berths, Room
from serving.security_headers import SHORT, missing

_PROBLEM = MEDIA_TYPE.encode()
PATIENCE_SECONDS = 30.0
"""With bodies that do not arrive; a client that stops in the middle would else be waited for without end."""
Answer = Callable[[bytes, Call], Awaitable[bytes]]
"""Gives the answer's body; its kind, when it is not JSON, by `Call.media_type`."""
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientGone(Exception):  # not an error: nobody is left to be answered
    """The client closed the connection before it had sent its whole body."""


def _require_json(content_type: bytes) -> None:
    if content_type == JSON:
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise not_accepted("content-type", "must be application/json", content_type)


@dataclass(frozen=True)
class Route:
    """A request that is answered by the short way.

    Args:
        path: Its path.
        answer: Makes the answer of the body.
        maximum_body_bytes: Longer bodies are refused.
        accept: Refuses a content type it does not read, by raising `BodyNotJson`.
        berths: Counts its requests from before their body is read, and refuses one that is too much; None where that is
            of no concern.
        problem: Status, slug and body for an error.
        problem_media_type: Of that body.
    """

    path: str
    answer: Answer
    maximum_body_bytes: int = 1 << 20
    accept: Callable[[bytes], None] = _require_json
    berths: Berths | None = None
    problem: Callable[[Exception], tuple[int, str, bytes]] = problem_of
    problem_media_type: bytes = _PROBLEM


class FrontDoor:
    """Where every request comes in.

    Args:
        guard: Decides who comes in; None lets everybody in.
        observers: Keep account of what was answered.
        headers: Sent with every answer of the short way.
        patience_seconds: How long a body may take.
        room: How much is taken on at once.
    """

    def __init__(
        self,
        guard: Guard | None = None,
        observers: Sequence[Observer] = (),
        headers: Sequence[Header] = SHORT,
        patience_seconds: float = PATIENCE_SECONDS,
        room: Room | None = None,
    ) -> None:
        self._guard = guard
        self._observers = tuple(observers)
        self._headers = tuple(headers)
        self._patience = Patience(patience_seconds)
        self.room = room or Room()
        """How much is under way."""

    def observe(self, *observers: Observer) -> None:
        """Have observers told of every answer from now on."""
        self._observers += observers

    async def respond(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        """Answer one request by the short way: with what the route makes of its body, or with a problem."""
        call = Call(route.path, scope["headers"], scope.get("query_string", b""))
        try:
            await self._respond(call, receive, send, route)
        finally:
            if route.berths is not None and call.held:
                route.berths.give_back(call.held)

    async def _respond(self, call: Call, receive: Receive, send: Send, route: Route) -> None:
        headers: Sequence[Header]
        try:
            length = self._look_at_headers(call, route)
            if self._guard is not None:
                self._guard.admit(call)
            if length > route.maximum_body_bytes:
                raise _too_large(route)
            if route.berths is not None:
                call.held = route.berths.take(length or route.maximum_body_bytes)
            self.room.reading += 1
            try:
                body = await self._in_time(receive, route, call)
            finally:
                self.room.reading -= 1
            call.bytes_in = len(body)
            self.room.enter()
            try:
                payload = await _made(route, body, call)
            finally:
                self.room.leave()
            call.status, headers = 200, call.answer_headers
        except ClientGone:
            return
        except Exception as error:  # the edge: every error leaves as a problem
            call.status, call.problem, payload = route.problem(error)
            call.media_type, headers = route.problem_media_type, headers_of(error, call.status)
            if isinstance(error, Overloaded):
                self.room.refused()
        finally:
            if call.bytes_held:
                self.room.release(call)
        call.bytes_out = len(payload)
        start: Message = {
            "type": "http.response.start",
            "status": call.status,
            "headers": [
                (b"content-type", call.media_type),
                (b"content-length", b"%d" % len(payload)),
                (b"x-request-id", call.id.encode()),
                *self._headers,
                *headers,
            ],
        }
        await send(start)
        await send({"type": "http.response.body", "body": payload})
        for observer in self._observers:
            observer.answered(call)

    async def pass_on(self, scope: Scope, receive: Receive, send: Send, application: Application) -> None:
        """Hand a request to the framework, under the same guard and the same eyes."""
        call = Call(scope["path"], scope["headers"])
        call.rows = 0
        scope.setdefault("state", {})["call"] = call
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                call.id = request_id(value)
        call.id = call.id or request_id(None)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                said = message["headers"]
                message = {**message, "headers": [*said, (b"x-request-id", call.id.encode()), *missing(said)]}
            else:
                call.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            if self._guard is not None:
                self._guard.admit(call)
        except Exception as error:  # the edge, as above
            call.status, call.problem, payload = problem_of(error)
            headers = [(b"content-type", _PROBLEM), (b"content-length", b"%d" % len(payload))]
            headers += headers_of(error, call.status)
            await noted({"type": "http.response.start", "status": call.status, "headers": headers})
            await noted({"type": "http.response.body", "body": payload})
        else:
            await application(scope, receive, noted)
            route = scope.get("route")
            # An address that nobody serves is anybody's word: it must not become a label of its own.
            call.route = getattr(route, "path", "") or "unknown"
        for observer in self._observers:
            observer.answered(call)

    def _look_at_headers(self, call: Call, route: Route) -> int:
        """What a request says of itself before its body: its id, its kind, its length.

        Returns:
            The announced length in bytes; 0 where none is announced.

        Raises:
            BodyNotJson: The headers say that it is of another kind, or compressed.
        """
        length, asked = 0, None
        wrong: BodyNotJson | None = None
        for name, value in call.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"content-type":
                try:
                    route.accept(value)
                except BodyNotJson as error:
                    wrong = error
            elif name == b"content-encoding" and value != b"identity":
                rule = "must be left out: the body is read as it is, not unpacked"
                wrong = not_accepted("content-encoding", rule, value)
            elif name == b"x-request-id":
                asked = value
        call.id = request_id(asked)
        if wrong is not None:
            raise wrong
        return length

    async def _in_time(self, receive: Receive, route: Route, call: Call) -> bytes:
        """The body of a request.

        Raises:
            BodyTooLarge: It is longer than the route reads; the rest is not read.
            BodyTooSlow: It did not come in time.
            Overloaded: There is no room for it at the moment.
            ClientGone: It never came.
        """
        try:
            return await self._patience.wait_for(self._read(receive, route, call))
        except TimeoutError:
            seconds = self._patience.seconds
            raise BodyTooSlow(f"the body did not arrive within {seconds:g} seconds; send it again") from None

    async def _read(self, receive: Receive, route: Route, call: Call) -> bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        first: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return first
        whole = bytearray(first)
        self.room.hold(call, len(first))
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            whole += part
            if len(whole) > route.maximum_body_bytes:
                raise _too_large(route)
            self.room.hold(call, len(part))
        # It reads like bytes; to copy a hundred megabytes of a batch would hold all other requests up.
        return whole  # type: ignore[return-value]


async def _made(route: Route, body: bytes, call: Call) -> bytes:
    """What a route makes of a body, once more when its model had to be brought into memory."""
    try:
        return await route.answer(body, call)
    except ModelNotInMemory as absent:
        return await once_in_memory(partial(route.answer, body, call), absent)


def headers_of(error: Exception, status: int) -> list[Header]:
    """Headers that belong to a problem."""
    if isinstance(error, KeyRefused):  # a stranger's body is not even thrown away
        return [(b"connection", b"close"), *error.headers]
    if status in (408, 413, 415):  # what is left of the body is not read
        return [(b"connection", b"close")]
    if status in (429, 503):
        seconds = math.ceil(getattr(error, "retry_after_seconds", 1.0))
        return [(b"retry-after", b"%d" % max(1, seconds))]
    return []


def not_accepted(header: str, rule: str, value: bytes) -> BodyNotJson:
    """The refusal of a body by what its headers say of it."""
    return BodyNotJson(Fault(header, rule, value.decode("latin-1")))


def _too_large(route: Route) -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than the {route.maximum_body_bytes} bytes that {route.path} reads")
