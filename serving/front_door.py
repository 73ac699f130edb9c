"""The request path of a prediction below the framework: the body is read once as bytes and answered as bytes.

FastAPI's own work for a request (dependency resolution, exit stacks, response models) costs several times what a
prediction does, and a prediction needs none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Scope, Send

from serving.encoding import Fault
from serving.patience import Patience
from serving.problems import MEDIA_TYPE, BodyNotJson, BodyTooLarge, BodyTooSlow, problem_of

MAXIMUM_BODY_BYTES = 1 << 20
PATIENCE = Patience(30.0)
"""With bodies that do not arrive; a client that stops in the middle would else be waited for without end."""
Answer = Callable[[bytes], Awaitable[bytes]]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())


class ClientGone(Exception):  # not an error: nobody is left to be answered
    """The client closed the connection before it had sent its whole body."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        BodyNotJson: The headers say that it is of another kind, or compressed.
        BodyTooLarge: It is longer than `MAXIMUM_BODY_BYTES`; the rest is not read.
        BodyTooSlow: It did not come in time.
        ClientGone: It never came.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if int(value) > MAXIMUM_BODY_BYTES:
                raise _too_large()
        elif name == b"content-type":
            if value != b"application/json":
                _require_json(value)
        elif name == b"content-encoding" and value != b"identity":
            raise _not_json("content-encoding", "must be left out: the body is read as it is, not unpacked", value)
    try:
        return await PATIENCE.wait_for(_read(receive))
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {PATIENCE.seconds:.0f} seconds; send it again") from None


async def _read(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAXIMUM_BODY_BYTES:
            raise _too_large()
    return body


async def respond(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    """Answer one request with JSON, or with a problem."""
    status, kind, headers = 200, _JSON, []
    try:
        payload = await answer(await read_body(scope, receive))
    except ClientGone:
        return
    except Exception as error:  # the edge: every error leaves as a problem
        status, payload = problem_of(error)
        kind = _PROBLEM
        if status in (408, 413, 415):  # what is left of the body is not read
            headers = [(b"connection", b"close")]
        elif status == 503:
            headers = [(b"retry-after", b"1")]
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [kind, (b"content-length", b"%d" % len(payload)), *headers],
    }
    await send(start)
    await send({"type": "http.response.body", "body": payload})


def _require_json(content_type: bytes) -> None:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise _not_json("content-type", "must be application/json", content_type)


def _not_json(header: str, rule: str, value: bytes) -> BodyNotJson:
    return BodyNotJson(Fault(header, rule, value.decode("latin-1")))


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than {MAXIMUM_BODY_BYTES} bytes; send one prediction a request")
