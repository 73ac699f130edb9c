"""Redis and PostgreSQL come and go, and the sidecar itself is asked to stop. Each test has a sidecar of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from mage_platform.local.embedded import running
from mage_platform.local.ports import free_port
from mage_platform.registry import sha256_of
from mage_platform.settings import Settings, load_settings
from tests.serving.open_loop import open_loop
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import command, valkey, with_ports

pytestmark = pytest.mark.integration
LONGEST_WAY_SECONDS = 0.5


def probabilities(served: Sidecar, features: dict[str, Any]) -> tuple[dict[str, float], bool]:
    answer = served.predict("outages", "r", features)
    assert answer.status_code == 200, answer.text
    return answer.json()["probabilities"], answer.json()["cached"]


def until_cached(served: Sidecar, features: dict[str, Any], expected: dict[str, float]) -> None:
    """Writes go behind the answer: ask until it comes from the cache."""
    until = time.monotonic() + 10
    while True:
        got, cached = probabilities(served, features)
        assert got == expected
        if cached:
            return
        assert time.monotonic() < until, "never answered from the cache"
        time.sleep(0.05)


def test_the_cache_never_makes_an_answer_wrong_or_late(servers: Settings, trained: Trained, tmp_path: Path) -> None:
    vectors = trained.vectors()
    one = [prediction["probabilities"] for prediction in trained.predictions("gbm")]
    two = [prediction["probabilities"] for prediction in trained.predictions("gbm_two")]
    promote(servers, "outages", "r", registered(servers, trained, "outages", "r", "gbm", "run_1"))
    port = free_port()
    settings = with_ports(servers, redis=port, sidecar=free_port())
    variables = {"SIDECAR__PREDICTION_CACHE": "always", "SIDECAR__REFRESH_SECONDS": "0.2"}
    with sidecar(settings, tmp_path, **variables) as served:
        # Refused: nothing listens yet.
        for row in range(20):
            assert probabilities(served, vectors[row]) == (one[row], False)

        with valkey(port, tmp_path, settings) as process:
            until_cached(served, vectors[0], one[0])
            until_cached(served, dict(reversed(vectors[0].items())), one[0])
            keys = command(port, "KEYS", "pred:*").split()
            key = next(word for word in keys if word.startswith(b"pred:")).decode()
            assert 40 < int(command(port, "TTL", key)[1:]) <= 66

            # Garbage under the key: computed anew, and the entry mended.
            for garbage in ("none of it", "{}", '{"prediction": "7", "probabilities": {"0": 0.5, "1": 0.5}}'):
                command(port, "SET", key, garbage)
                assert probabilities(served, vectors[0]) == (one[0], False)
                until_cached(served, vectors[0], one[0])

            # Another model: another key, although the vector is the same.
            promote(servers, "outages", "r", registered(servers, trained, "outages", "r", "gbm_two", "run_2"))
            served.await_version("outages", "r", 2)
            assert probabilities(served, vectors[0]) == (two[0], False)
            until_cached(served, vectors[0], two[0])

            # Frozen: the connection stands, and nothing answers.
            process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            for row in range(100, 200):
                assert probabilities(served, vectors[row]) == (two[row], False)
            assert time.monotonic() - started < 5  # by the server's own timeout alone it would be 5 s and more
            process.send_signal(signal.SIGCONT)
            until_cached(served, vectors[1], two[1])

            process.kill()
            process.wait()
            for row in range(200, 220):
                assert probabilities(served, vectors[row]) == (two[row], False)
        with valkey(port, tmp_path, settings):
            until_cached(served, vectors[2], two[2])


def test_it_starts_before_postgresql_and_outlives_it(trained: Trained, tmp_path: Path) -> None:
    expected = trained.predictions("glm")
    state_folder = tmp_path / "state"
    settings = with_ports(
        load_settings(state_folder=state_folder),
        database=free_port(),
        redis=free_port(),
        sidecar=free_port(),
    )
    settings = settings.model_copy(update={"database_password": None})
    with running(settings, ("postgres",), migrate=True, free_ports=False) as effective:
        promote(effective, "outages", "r", registered(effective, trained, "outages", "r", "glm"))
    with sidecar(effective, tmp_path, ready=False, SIDECAR__REFRESH_SECONDS="0.2") as served:
        answer = served.client.get("/health/ready")
        assert answer.status_code == 503
        assert str(effective.database.port) in answer.json()["reason"]
        early = served.predict("outages", "r", trained.vectors()[0])
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        assert "password" not in early.text

        with running(settings, ("postgres",), free_ports=False):
            served.await_version("outages", "r", 1, seconds=30)
            until = time.monotonic() + 10
            while served.client.get("/health/ready").status_code != 200:  # a request is answered a little earlier
                assert time.monotonic() < until
                time.sleep(0.05)
            assert served.predict("outages", "r", None).status_code == 404

        for row in range(50):
            assert probabilities(served, trained.vectors()[row])[0] == expected[row]["probabilities"]
        by_entity = served.predict("outages", "r", None)
        assert by_entity.status_code == 503
        assert by_entity.headers["content-type"] == "application/problem+json"
        until = time.monotonic() + 10
        while served.readiness()["registry"]["reachable"]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert served.readiness()["status"] == "ready"

        with running(settings, ("postgres",), free_ports=False):
            until = time.monotonic() + 20
            while served.predict("outages", "r", None).status_code != 404:
                assert time.monotonic() < until
                time.sleep(0.2)


def test_it_starts_without_postgresql_on_the_champions_it_saw_last(trained: Trained, tmp_path: Path) -> None:
    state_folder = tmp_path / "state"
    ports = {"database": free_port(), "redis": free_port(), "sidecar": free_port()}
    settings = with_ports(load_settings(state_folder=state_folder), **ports)
    settings = settings.model_copy(update={"database_password": None})
    names = {"r": "gbm", "s": "glm"}
    with running(settings, ("postgres",), migrate=True, free_ports=False) as effective:
        for region, name in names.items():
            promote(effective, "outages", region, registered(effective, trained, "outages", region, name))
        with sidecar(effective, tmp_path, SIDECAR__REFRESH_SECONDS="0.2") as served:
            for region in names:
                served.await_version("outages", region, 1)

    def answers(served: Sidecar, region: str) -> httpx.Response:
        return served.predict("outages", region, trained.vectors()[3])

    with sidecar(effective, tmp_path, SIDECAR__REFRESH_SECONDS="0.2") as served:
        state = served.readiness()
        assert (state["status"], state["models"], state["known"]) == ("ready", 2, 2)
        assert state["registry"]["reachable"] is False
        assert str(ports["database"]) in state["registry"]["reason"]
        assert (state["registry"]["read_at"], state["registry"]["kept_at"] is None) == (None, False)
        for region, name in names.items():
            answer = answers(served, region)
            assert answer.json()["probabilities"] == trained.predictions(name)[3]["probabilities"]
        assert answers(served, "t").status_code == 404

        with running(settings, ("postgres",), free_ports=False):
            promote(effective, "outages", "s", registered(effective, trained, "outages", "s", "gbm_two", "run_2"))
            served.await_version("outages", "s", 2, seconds=30)
            state = served.readiness()
            assert (state["registry"]["reachable"], state["registry"]["kept_at"]) == (True, None)

    # Where something listens and never answers, it does not wait until the connection times out.
    with socket.create_server(("127.0.0.1", ports["database"])), sidecar(effective, tmp_path) as served:
        state = served.readiness()
        assert (state["status"], state["registry"]["reachable"]) == ("ready", False)
        assert state["registry"]["kept_at"] is not None
        assert answers(served, "s").json()["model"]["version"] == 2

    # Nothing on the disk is taken for being there: another MOJO under the right name is not loaded, and a version that
    # claims to be what its signature does not say is refused.
    copies = state_folder / "serving"
    for copy in copies.glob("*.zip"):
        if sha256_of(copy) == sha256_of(trained.mojo("gbm")):
            copy.write_bytes(trained.mojo("glm").read_bytes())
    kept = copies / "last_seen.json"
    forged = json.loads(kept.read_text())
    (own,) = [each for each in forged["deployments"] if each["champion"]["model"]["region"] == "s"]
    own["champion"]["model"]["version"] = 7
    kept.write_text(json.dumps(forged))
    with sidecar(effective, tmp_path, ready=False, SIDECAR__REFRESH_SECONDS="0.2") as served:
        until = time.monotonic() + 20
        while served.readiness()["registry"]["kept_at"] is None:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert served.readiness()["status"] == "not ready"
        for region, sentence in (("r", "PostgreSQL"), ("s", "does not fit it")):
            refused = answers(served, region)
            assert refused.status_code == 503
            assert sentence in refused.json()["detail"]
            assert refused.headers["retry-after"]

    kept.write_text("half a file {")
    with sidecar(effective, tmp_path, ready=False, SIDECAR__REFRESH_SECONDS="0.2") as served:
        assert served.client.get("/health/ready").status_code == 503
        with running(settings, ("postgres",), free_ports=False):
            served.await_version("outages", "r", 1, seconds=30)
            assert answers(served, "r").json()["probabilities"] == trained.predictions("gbm")[3]["probabilities"]


def test_sigterm_under_load_answers_every_request_it_took(servers: Settings, trained: Trained, tmp_path: Path) -> None:
    promote(servers, "outages", "r", registered(servers, trained, "outages", "r", "gbm", "run_1"))
    settings = with_ports(servers, sidecar=free_port())
    vectors, right = trained.vectors(), trained.predictions("gbm")

    def body(number: int) -> dict[str, Any]:
        features = vectors[number % len(vectors)]
        return {"use_case": "outages", "region": "r", "entity_id": ENTITY, "features": features}

    with sidecar(settings, tmp_path) as served:
        with open_loop(served.settings.sidecar.url, body, rate=150) as load:
            load.await_answers(100)
            asked_at = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(timeout=15) == 0
            load.stop()
        for answer in load.answers:
            assert answer.status == 200, answer.body
            assert answer.body["probabilities"] == right[answer.number % len(vectors)]["probabilities"]
        assert load.lost, "the load went on until nobody answered any more"
        # What was sent waits in the kernel until the sidecar takes it.
        taken = [each for each in load.lost if each.sent is not None and each.sent < asked_at - LONGEST_WAY_SECONDS]
        assert not taken, "only who comes about or after the signal is turned away"
        assert not [each for each in load.lost if each.at < asked_at]
    log = (tmp_path / "sidecar.log").read_text()
    assert "sidecar stopped" in log
    assert "Traceback" not in log


def test_sigterm_lets_a_request_under_way_be_answered(servers: Settings, trained: Trained, tmp_path: Path) -> None:
    promote(servers, "outages", "r", registered(servers, trained, "outages", "r", "gbm", "run_1"))
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(settings, tmp_path) as served:
        body = httpx.Request(
            "POST",
            "http://x/v1/predict",
            json={"use_case": "outages", "region": "r", "entity_id": ENTITY, "features": trained.vectors()[0]},
        ).content
        head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", settings.sidecar.port), timeout=10) as connection:
            connection.sendall(head + body[:50])
            time.sleep(0.3)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.7)
            connection.sendall(body[50:])
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"probabilities"' in answer
        assert served.process.wait(timeout=15) == 0
    log = (tmp_path / "sidecar.log").read_text()
    assert "sidecar stopped" in log
    assert "Traceback" not in log


def test_what_prevents_the_start_is_one_line(servers: Settings, tmp_path: Path) -> None:
    from mage_platform.local.surroundings import platform_environment
    from mage_platform.settings import PROJECT
    from tests.serving.sidecar_process import INTERPRETER

    environment = {**os.environ, **platform_environment(servers)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for variables, word in (
            ({"PLATFORM_SIDECAR__PORT": port}, "PLATFORM_SIDECAR__PORT"),
            ({"PLATFORM_SIDECAR__PROT": "1"}, "PLATFORM_SIDECAR__PORT"),
        ):
            done = subprocess.run(
                [str(INTERPRETER), "-m", "serving"],
                cwd=PROJECT,
                env={**environment, **variables},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert word in done.stderr
