"""How a server of the local stack is asked whether it is ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Probe = Callable[[], Awaitable[bool]]


def http_answers(
    host: str, port: int, path: str, accept: Callable[[Any], bool] | None = None, *, authorization: str | None = None
) -> Probe:
    """Ready when `GET path` answers 200 and `accept` holds for the JSON of the answer.

    Args:
        host: Where the server listens.
        port: Its port.
        path: What is asked for.
        accept: Whether the answer is that of a server that is ready.
        authorization: Value of the header of that name.
    """
    login = f"Authorization: {authorization}\r\n" if authorization else ""

    async def probe() -> bool:
        request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n{login}\r\n"
        answer = await _exchange(host, port, request.encode(), until_closed=True)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200" not in head.split(b"\r\n", 1)[0]:
            return False
        return accept is None or bool(accept(json.loads(body)))

    return _quiet(probe)


def valkey_answers(host: str, port: int, password: str | None) -> Probe:
    """Ready when PING is answered."""
    login = f"AUTH {password}\r\n" if password else ""

    async def probe() -> bool:
        answer = await _exchange(host, port, f"{login}PING\r\nQUIT\r\n".encode(), until_closed=True)
        return b"+PONG" in answer

    return _quiet(probe)


def port_answers(host: str, port: int) -> Probe:
    """Ready when a connection is accepted."""

    async def probe() -> bool:
        await _exchange(host, port, b"", until_closed=False)
        return True

    return _quiet(probe)


def _quiet(probe: Probe) -> Probe:
    async def quiet() -> bool:
        try:
            return await asyncio.wait_for(probe(), 5)
        except (OSError, TimeoutError, ValueError):
            return False

    return quiet


async def _exchange(host: str, port: int, request: bytes, *, until_closed: bool) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read() if until_closed else b""
    finally:
        writer.close()
