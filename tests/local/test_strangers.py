"""What somebody without a password gets from the local stack: nothing. Every server is real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest

from mage_platform.local import proc
from mage_platform.local.lookup import ALL, status
from mage_platform.orchestration.mage_session import PUBLIC_API_KEY
from mage_platform.settings import Settings

from .conftest import Up, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as the kernel writes them."""


def test_no_service_is_reached_from_outside_or_without_a_password(up: Callable[..., Up], settings: Settings) -> None:
    stack = up(",".join(ALL))
    wait_until(lambda: "up\n" in stack.said or stack.process.poll() is not None, 300)
    assert "up\n" in stack.said, stack.said
    _only_loopback(settings)
    _mage_asks_for_a_login(settings)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=settings.database.port, user="postgres", dbname="postgres")
    assert httpx.get(f"{settings.h2o.url}/3/Cloud", timeout=10).status_code == 401


def _only_loopback(settings: Settings) -> None:
    services = {each.name: each.pid for each in status(settings) if each.up}
    assert {"postgres", "valkey", "h2o", "mage", "sidecar"} <= services.keys()
    for name, pid in services.items():
        assert pid is not None
        addresses = _listening(_family(pid))
        assert addresses, f"{name} listens nowhere"
        assert addresses <= LOOPBACK, f"{name} listens on {addresses}"


def _family(pid: int) -> set[int]:
    children = proc.children_of(pid)
    return {pid}.union(*(_family(child) for child in children))


def _listening(pids: set[int]) -> set[str]:
    """Addresses on which these processes listen, from the kernel's table of sockets."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(descriptor.readlink()))
            except OSError:  # closed meanwhile
                continue
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def _mage_asks_for_a_login(settings: Settings) -> None:
    with httpx.Client(base_url=settings.mage.url, headers={"X-API-KEY": PUBLIC_API_KEY}, timeout=30) as anybody:
        (state,) = anybody.get("/api/status").json()["statuses"]
        assert state["require_user_authentication"] is True
        for path in ("/api/pipelines", "/api/secrets", "/api/files"):
            assert anybody.get(path).json()["error"]["code"] in (401, 403), path
        for email, password in (("admin@admin.com", "admin"), (settings.mage.owner_email, "admin")):
            answer = anybody.post("/api/sessions", json={"session": {"email": email, "password": password}}).json()
            assert "error" in answer and "session" not in answer, email
        secret = (settings.state_folder / "secrets" / "platform_mage_owner_password").read_text()
        session = {"email": settings.mage.owner_email, "password": secret}
        token = anybody.post("/api/sessions", json={"session": session}).json()["session"]["token"]
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token, "materia", algorithms=["HS256"])  # the key of every Mage that was given none
