"""Clients that are slow, wordless, too many or too fast, over bare sockets; everybody else is answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

pytestmark = pytest.mark.integration
PATIENCE_SECONDS = 1.0
CONNECTIONS = 120
UNDER_WAY = 4


@pytest.fixture(scope="module")
def strict(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that waits a second for clients, and takes on little at a time."""
    promote(servers, "connections", "r", registered(servers, trained, "connections", "r", "gbm"))
    with sidecar(
        with_ports(servers, sidecar=free_port()),
        tmp_path_factory.mktemp("strict"),
        SIDECAR__REFRESH_SECONDS="0.2",
        SIDECAR__PATIENCE_SECONDS=str(PATIENCE_SECONDS),
        SIDECAR__KEEP_ALIVE_SECONDS="2",
        SIDECAR__MAXIMUM_CONNECTIONS=str(CONNECTIONS),
        SIDECAR__MAXIMUM_UNDER_WAY=str(UNDER_WAY),
        SIDECAR__BODY_MEMORY_MIB="1",
    ) as started:
        yield started


def connected(served: Sidecar) -> socket.socket:
    return socket.create_connection((served.settings.sidecar.host, served.settings.sidecar.port), timeout=30)


def exchanged(served: Sidecar, sent: bytes) -> bytes:
    """Everything that is answered until the sidecar closes the connection."""
    with connected(served) as client:
        client.sendall(sent)
        return until_closed(client)


def until_closed(client: socket.socket) -> bytes:
    received = b""
    try:
        while part := client.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return dict(json.loads(body))


def cut_off(served: Sidecar, why: str) -> int:
    return sum(line.get(why, 0) for line in served.logged("clients cut off"))


def await_that(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def body(trained: Trained, **more: Any) -> bytes:
    return json.dumps(
        {"use_case": "connections", "region": "r", "entity_id": ENTITY, "features": trained.vectors()[0]} | more
    ).encode()


def request(content: bytes) -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(content) + content


@pytest.mark.parametrize(
    "begun", [b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-half", b"G", b"POST /v1/predict HTTP/1.1\r\n"]
)
def test_a_header_that_stops_coming_is_answered_408_and_the_connection_closed(strict: Sidecar, begun: bytes) -> None:
    answer = exchanged(strict, begun)
    assert status_of(answer) == 408
    assert "headers did not arrive within 1 seconds" in problem_of(answer)["detail"]


def test_a_header_that_drips_is_cut_off_as_well(strict: Sidecar) -> None:
    with connected(strict) as client:
        client.settimeout(0.1)
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-slow: ")
        received = b""
        for _ in range(200):
            try:
                client.sendall(b"a")
                received += client.recv(1 << 16)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if b"\r\n\r\n" in received:
                break
        assert status_of(received) == 408


def test_a_second_header_that_stops_coming_is_cut_off_like_the_first(strict: Sidecar) -> None:
    answer = exchanged(strict, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /health/live HTTP/1.1\r\nho")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


def test_a_client_that_never_says_a_word_is_cut_off(strict: Sidecar) -> None:
    before = cut_off(strict, "header")
    assert exchanged(strict, b"") == b""
    await_that(lambda: cut_off(strict, "header") > before)


def test_an_idle_connection_is_closed_after_its_time(strict: Sidecar) -> None:
    answer = exchanged(strict, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status_of(answer) == 200
    assert answer.endswith(b'{"status":"live"}')


def test_a_body_that_stops_coming_is_answered_408(strict: Sidecar, trained: Trained) -> None:
    answer = exchanged(strict, request(body(trained))[:-5])
    assert status_of(answer) == 408
    assert problem_of(answer)["type"].endswith(":body-too-slow")


def test_a_body_that_nobody_reads_is_cut_off_too(strict: Sidecar) -> None:
    before = cut_off(strict, "rest")
    answer = exchanged(strict, b"GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
    assert status_of(answer) == 200
    with connected(strict) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        received = client.recv(1 << 16)
        client.sendall(b"abc")  # takes the timer of the idle connection away
        received += until_closed(client)
    assert status_of(received) == 200
    await_that(lambda: cut_off(strict, "rest") > before)


def test_a_client_that_does_not_take_its_answer_is_cut_off(strict: Sidecar) -> None:
    before = cut_off(strict, "answer")
    asset = strict.client.get("/docs/assets/swagger-ui-bundle.js")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect((strict.settings.sidecar.host, strict.settings.sidecar.port))
        client.sendall(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        await_that(lambda: cut_off(strict, "answer") > before)
        assert len(until_closed(client)) < 20 * len(asset.content)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(strict: Sidecar) -> None:
    path = "/docs/assets/swagger-ui-bundle.js"
    size = len(strict.client.get(path).content)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.settimeout(30)
        client.connect((strict.settings.sidecar.host, strict.settings.sidecar.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode() * 1)
        received = 0
        while part := client.recv(1 << 15):
            received += len(part)
            time.sleep(0.03)
    assert received > size


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET http://elsewhere:x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_no_request_is_a_problem_and_never_a_failure(strict: Sidecar, sent: bytes) -> None:
    answer = exchanged(strict, sent)
    assert 400 <= status_of(answer) < 500
    assert problem_of(answer)["status"] == status_of(answer)
    assert not strict.logged("Exception in ASGI application\n")
    assert not strict.logged("request failed")


@pytest.mark.parametrize("filler", [b"x-long: " + b"a" * 300_000, b"x: y\r\n" * 60_000])
def test_headers_without_end_are_refused(strict: Sidecar, filler: bytes) -> None:
    with connected(strict) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n")
        for at in range(0, len(filler), 30_000):
            try:
                client.sendall(filler[at : at + 30_000])
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.01)
        answer = until_closed(client)
    # A client that goes on sending may lose the answer with the connection.
    assert answer == b"" or status_of(answer) == 431
    await_that(lambda: cut_off(strict, "long_header") > 0)


def test_nobody_is_believed_about_where_a_request_comes_from_or_goes_to(strict: Sidecar) -> None:
    plain = strict.client.get("/v1/models")
    lies = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-for": "10.0.0.1"}
    lies |= {"x-forwarded-proto": "https", "x-forwarded-prefix": "/evil", "forwarded": "host=evil.example"}
    assert strict.client.get("/v1/models", headers=lies).content == plain.content
    for path in ("/docs", "/docs/assets", "/v1/models/", "/openapi.json"):
        answer = strict.client.get(path, headers=lies)
        assert "evil" not in answer.text + str(answer.headers)
    absolute = b"GET http://evil.example/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert exchanged(strict, absolute).endswith(b'{"status":"live"}')


def test_an_upgrade_is_not_answered_and_not_logged(strict: Sidecar) -> None:
    sent = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"
    assert status_of(exchanged(strict, sent)) == 200
    assert "WebSocket" not in strict.log.read_text()


def test_connections_over_the_limit_are_answered_503_and_the_others_go_on(strict: Sidecar) -> None:
    strict.client.get("/health/live")
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(strict)) for _ in range(CONNECTIONS + 30)]
        refused = 0
        for client in clients:
            client.settimeout(0.2)
            try:
                answer = client.recv(1 << 16)
            except TimeoutError:
                break  # this one is let in, and nothing was asked
            refused += status_of(answer) == 503
            assert b"retry-after: 1\r\n" in answer
        for client in clients[-20:]:
            client.settimeout(5)
            answer = until_closed(client)
            assert status_of(answer) == 503
            assert b"retry-after: 1\r\n" in answer
    await_that(lambda: cut_off(strict, "too_many") >= 20)
    await_that(lambda: strict.client.get("/health/live").status_code == 200)


def memory_mib(served: Sidecar) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def _crowd(served: Sidecar, content: bytes, rounds: int) -> list[bytes]:
    host, port = served.settings.sidecar.host, served.settings.sidecar.port
    answers = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(rounds):
            writer.write(request(content))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            answers.append(head + await reader.readexactly(length))
        writer.close()

    await asyncio.gather(*(one() for _ in range(100)))
    return answers


def test_more_than_can_be_answered_is_refused_and_nothing_falls_over(strict: Sidecar, trained: Trained) -> None:
    content = body(trained)
    expected = strict.client.post("/v1/predict", content=content).json()
    asyncio.run(_crowd(strict, content, 5))
    before = memory_mib(strict)
    answers = asyncio.run(_crowd(strict, content, 40))
    assert memory_mib(strict) - before < 30
    refused = [answer for answer in answers if status_of(answer) == 503]
    answered = [answer for answer in answers if status_of(answer) == 200]
    assert len(refused) + len(answered) == len(answers) == 4000
    assert answered
    assert refused
    for answer in refused:
        assert b"retry-after: 1\r\n" in answer
        assert problem_of(answer)["type"].endswith(":overloaded")
    for answer in answered:
        got = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (got["prediction"], got["probabilities"]) == (expected["prediction"], expected["probabilities"])
    assert strict.client.post("/v1/predict", content=content).status_code == 200
    lines = strict.logged("requests refused for lack of room")
    assert 0 < len(lines) < 20
    assert not strict.logged("request not answered")


def test_requests_sent_ahead_are_answered_or_refused_each_in_its_turn(strict: Sidecar, trained: Trained) -> None:
    ahead = 800
    for body_of_each in (body(trained), b"{}"):
        with connected(strict) as client:
            client.sendall(request(body_of_each) * ahead + b"GET /health/live HTTP/1.1\r\nconnection: close\r\n\r\n")
            answer = until_closed(client)
        assert answer.count(b"HTTP/1.1 ") == ahead + 1
        assert answer.endswith(b'{"status":"live"}')


def test_bodies_under_way_share_a_bounded_memory(strict: Sidecar, trained: Trained) -> None:
    content = body(trained).ljust(700_000)
    with connected(strict) as first, connected(strict) as second:
        first.sendall(request(content)[:-10])
        time.sleep(0.2)
        second.sendall(request(content)[:600_000])
        second.shutdown(socket.SHUT_WR)
        answer = until_closed(second)
        assert status_of(answer) == 503
        assert problem_of(answer)["type"].endswith(":overloaded")
        first.sendall(b" " * 10)
        assert status_of(until_closed(first)) == 200
    assert status_of(exchanged(strict, request(content))) == 200
