"""Several workers on one port: real processes, of which some are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving.open_loop import open_loop
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

pytestmark = pytest.mark.integration


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def both_started(served: Sidecar, count: int) -> None:
    until(lambda: len([each for each in served.logged("model served") if each["use_case"] == "workers"]) >= count)


@pytest.fixture
def settings(servers: Settings, trained: Trained) -> Settings:
    version = registered(servers, trained, "workers", "r", "gbm")
    promote(servers, "workers", "r", version)
    return with_ports(servers, sidecar=free_port())


def test_a_killed_worker_is_replaced_while_the_other_answers_and_all_drain_at_the_end(
    settings: Settings, trained: Trained, tmp_path: Path
) -> None:
    vectors, right = trained.vectors(), trained.predictions("gbm")

    def body(number: int) -> dict[str, Any]:
        features = vectors[number % len(vectors)]
        return {"use_case": "workers", "region": "r", "entity_id": ENTITY, "features": features}

    with sidecar(settings, tmp_path, SIDECAR__WORKERS="2", SIDECAR__REFRESH_SECONDS="0.5") as served:
        both_started(served, 2)
        parent = served.process.pid
        before = children(parent)
        assert len(before) == 2
        assert "libjvm" not in Path(f"/proc/{parent}/maps").read_text()
        with open_loop(served.settings.sidecar.url, body, rate=60) as load:
            load.await_answers(60)
            killed_at = time.monotonic()
            os.kill(before[0], signal.SIGKILL)
            both_started(served, 3)
            back_at = time.monotonic()
            load.await_answers(60)
        assert before[1] in children(parent)
        assert len(children(parent)) == 2
        assert [each["worker"] for each in served.logged("worker died")] == [0]
        # Only connections of the killed one are cut; whoever asks again is answered.
        assert len(load.lost) <= 64
        assert all("ConnectError" not in each.reason for each in load.lost), load.lost[:3]
        for answer in load.answers:
            assert answer.status == 200, answer.body
            assert answer.body["probabilities"] == right[answer.number % len(vectors)]["probabilities"]
        assert len([each for each in load.answers if killed_at < each.at < back_at]) > 10

        last = children(parent)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0
        assert not any(map(alive, last))
    assert len(served.logged("sidecar stopped")) == 3
    assert "Traceback" not in served.log.read_text()


def test_workers_end_with_their_parent(settings: Settings, tmp_path: Path) -> None:
    with sidecar(settings, tmp_path, SIDECAR__WORKERS="2") as served:
        both_started(served, 2)
        workers = children(served.process.pid)
        served.process.kill()
        served.process.wait()
        until(lambda: not any(map(alive, workers)))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{settings.sidecar.url}/health/live", timeout=2)
