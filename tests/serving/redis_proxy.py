"""A TCP server between the sidecar and a real Valkey that passes everything on, until it is told to misbehave."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

RESET = b"\xff reset"
"""Stands for: cut the connection without a word."""
Misbehaviour = Callable[[bytes], Iterator[bytes]]
"""What the sidecar is sent in place of an answer of Valkey's."""


def instead(answer: bytes) -> Misbehaviour:
    """The same words in place of every answer."""

    def misbehave(_: bytes) -> Iterator[bytes]:
        yield answer

    return misbehave


def silent(answer: bytes) -> Iterator[bytes]:
    """The connection stands, and nothing comes."""
    yield from ()


def cut(answer: bytes) -> Iterator[bytes]:
    """The connection is reset before the answer."""
    yield RESET


def cut_in_the_middle(answer: bytes) -> Iterator[bytes]:
    """The connection is reset in the middle of the answer."""
    yield answer[: len(answer) // 2]
    yield RESET


def slow(answer: bytes) -> Iterator[bytes]:
    """The answer is right, and comes after 20 ms."""
    time.sleep(0.02)
    yield answer


def dripping(answer: bytes) -> Iterator[bytes]:
    """The answer is right, and comes a byte each 2 ms."""
    for place in range(len(answer)):
        time.sleep(0.002)
        yield answer[place : place + 1]


def shifted() -> Misbehaviour:
    """Each answer is the one to the question before: what a connection gives that somebody left in disorder."""
    before: list[bytes] = []

    def misbehave(answer: bytes) -> Iterator[bytes]:
        before.append(answer)
        yield before[-2] if len(before) > 1 else answer

    return misbehave


class Proxy(socketserver.ThreadingTCPServer):
    """Passes on between its own port and that of a Valkey."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, port: int, valkey_port: int) -> None:
        self.valkey_port = valkey_port
        self.misbehaviour: Misbehaviour | None = None
        super().__init__(("127.0.0.1", port), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.valkey_port)) as valkey, suppress(OSError):
            threading.Thread(target=self._forward, args=(valkey,), daemon=True).start()
            while answer := valkey.recv(1 << 16):
                misbehaviour = self.server.misbehaviour
                for part in [answer] if misbehaviour is None else misbehaviour(answer):
                    if part is RESET:
                        self._reset()
                        return
                    self.request.sendall(part)

    def _forward(self, valkey: socket.socket) -> None:
        with suppress(OSError):
            while question := self.request.recv(1 << 16):
                valkey.sendall(question)
        with suppress(OSError):
            valkey.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()


@contextmanager
def proxy(port: int, valkey_port: int) -> Iterator[Proxy]:
    """Run a proxy for as long as the block lasts."""
    with Proxy(port, valkey_port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
