"""Whatever Redis does, a prediction is right, and no request fails or waits long: a real sidecar and a real Valkey."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving import redis_proxy
from tests.serving.redis_proxy import Proxy, instead, proxy
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import command, valkey, with_ports

pytestmark = pytest.mark.integration
USE_CASE = "cached"


class Scene:
    """A sidecar that asks Redis for every prediction of one region and for none of another, and its Valkey."""

    def __init__(self, served: Sidecar, between: Proxy, port: int, trained: Trained) -> None:
        self.served, self.proxy, self.port = served, between, port
        self.vectors = trained.vectors()
        self.expected = [prediction["probabilities"] for prediction in trained.predictions("gbm")]

    def ask(self, row: int, region: str = "always", **changes: Any) -> dict[str, Any]:
        answer = self.served.predict(USE_CASE, region, self.vectors[row] | changes)
        assert answer.status_code == 200, answer.text
        got: dict[str, Any] = answer.json()
        if not changes:
            assert got["probabilities"] == self.expected[row]
        return got

    def until_cached(self, row: int) -> None:
        until = time.monotonic() + 25
        while not self.ask(row)["cached"]:
            assert time.monotonic() < until, "never answered from the cache"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def scene(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    for policy in ("always", "off"):
        promote(
            servers, USE_CASE, policy, registered(servers, trained, USE_CASE, policy, "gbm", cache_policy=policy)
        )  # fmt: skip
    folder, port = tmp_path_factory.mktemp("cached"), free_port()
    settings = with_ports(servers, redis=free_port(), sidecar=free_port())
    # The setting says otherwise: what a use case says of its models goes first.
    with (
        valkey(port, folder, settings),
        proxy(settings.redis.port, port) as between,
        sidecar(settings, folder, SIDECAR__PREDICTION_CACHE="adaptive") as served,
    ):
        yield Scene(served, between, port, trained)
        assert not served.logged("request failed")


def test_a_use_case_says_whether_its_predictions_are_cached(scene: Scene) -> None:
    scene.until_cached(0)
    assert [scene.ask(0, "off")["cached"] for _ in range(5)] == [False] * 5


def test_what_a_vector_lacks_is_told_of_the_request_and_never_of_the_cached_one(scene: Scene) -> None:
    row = next(n for n, vector in enumerate(scene.vectors) if None not in vector.values() and vector["carrier"] != "ZZ")
    unknown = scene.ask(row, carrier="Z1")
    until = time.monotonic() + 10
    while not (null := scene.ask(row, carrier=None))["cached"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    again = scene.ask(row, carrier="Z2")
    assert again["cached"]
    assert unknown["probabilities"] == null["probabilities"] == again["probabilities"]
    assert [(each.get("missing"), each.get("unknown_levels")) for each in (unknown, null, again)] == [
        (None, ["carrier"]),
        (["carrier"], None),
        (None, ["carrier"]),
    ]


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(redis_proxy.silent, id="frozen"),
        pytest.param(redis_proxy.slow, id="slow"),
        pytest.param(redis_proxy.dripping, id="dripping"),
        pytest.param(redis_proxy.cut, id="reset"),
        pytest.param(redis_proxy.cut_in_the_middle, id="reset in the middle"),
        pytest.param(redis_proxy.shifted(), id="answers to other questions"),
        pytest.param(instead(b"\x00\xffnone of it\r\n"), id="no protocol"),
        pytest.param(instead(b"HTTP/1.1 400 Bad Request\r\n\r\n"), id="another protocol"),
        pytest.param(instead(b"-ERR nobody knows\r\n"), id="errors"),
        pytest.param(instead(b"-LOADING Redis is loading the dataset in memory\r\n"), id="loading"),
        pytest.param(instead(b"*1\r\n:7\r\n"), id="a number for a value"),
        pytest.param(instead(b"*1\r\n*1\r\n$1\r\na\r\n"), id="a list for a value"),
        pytest.param(instead(b"*1\r\n-ERR one of them\r\n"), id="an error for a value"),
        pytest.param(instead(b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"), id="too many values"),
        pytest.param(instead(b"*-1\r\n"), id="nothing for a list"),
        pytest.param(instead(b"*1\r\n$2147483646\r\nabc"), id="a value that never ends"),
        pytest.param(instead(b"*1\r\n" * 5000), id="a list without end"),
    ],
)
def test_a_redis_that_misbehaves_makes_no_answer_wrong_or_late(scene: Scene, misbehaviour: Any) -> None:
    scene.until_cached(1)
    scene.proxy.misbehaviour = misbehaviour
    try:
        started = time.monotonic()
        for row in range(100):
            scene.ask(row % 50)
        # The server's own timeout for each would be 5 s and more.
        assert time.monotonic() - started < 5
    finally:
        scene.proxy.misbehaviour = None
    scene.until_cached(2)


def test_a_flushed_redis_is_filled_again(scene: Scene) -> None:
    scene.until_cached(3)
    command(scene.port, "FLUSHALL")
    assert not scene.ask(3)["cached"]
    scene.until_cached(3)


@pytest.mark.parametrize(
    ("fill", "empty"),
    [
        (["CONFIG", "SET", "maxmemory", "1kb"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    ],
    ids=["full", "a replica"],
)
def test_a_redis_that_takes_no_writes_is_read_all_the_same(scene: Scene, fill: list[str], empty: list[str]) -> None:
    command(scene.port, "FLUSHALL")
    scene.until_cached(4)
    command(scene.port, *fill)
    try:
        hits = 0
        for row in range(20, 120):
            assert not scene.ask(row)["cached"]
            hits += scene.ask(4)["cached"]
        assert scene.served.logged("cache takes no writes")
        assert hits > 30  # all, but where the machine is so busy that a read comes late
    finally:
        command(scene.port, *empty)
    scene.until_cached(20)


def test_a_redis_that_wants_a_password_is_left_alone(scene: Scene) -> None:
    scene.until_cached(5)
    password = scene.served.settings.redis_password
    assert password is not None
    command(scene.port, "CONFIG", "SET", "requirepass", "unknown to the sidecar")
    command_as_owner(scene.port, "CLIENT", "KILL", "TYPE", "normal")
    try:
        assert not any(scene.ask(row)["cached"] for row in range(5, 50))
    finally:
        command_as_owner(scene.port, "CONFIG", "SET", "requirepass", password.get_secret_value())
    scene.until_cached(5)


def command_as_owner(port: int, *words: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b'AUTH "unknown to the sidecar"\r\n')
        assert connection.recv(64) == b"+OK\r\n"
        connection.sendall((" ".join(f'"{word}"' for word in words) + "\r\n").encode())
        assert not connection.recv(64).startswith(b"-")


def test_a_redis_that_comes_back_from_the_dead_is_used_again(scene: Scene, tmp_path: Path) -> None:
    port = free_port()
    between, scene.proxy.valkey_port = scene.proxy.valkey_port, port
    try:
        command(scene.port, "CLIENT", "KILL", "TYPE", "normal")
        for row in range(50):
            scene.ask(row)
        with valkey(port, tmp_path, scene.served.settings) as process:
            scene.until_cached(6)
            process.kill()
            process.wait()
            for row in range(50):
                assert not scene.ask(row)["cached"]
    finally:
        scene.proxy.valkey_port = between
    scene.until_cached(7)
