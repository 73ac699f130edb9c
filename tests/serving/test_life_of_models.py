"""Champions come and go while requests run; how they fail is in `test_refused_models`."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import httpx
import pytest

from mage_platform.registry import sha256_of
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered

pytestmark = pytest.mark.integration
CLIENTS = 6


class Requests(threading.Thread):
    """Asks without a pause, and keeps every answer with the row it was for."""

    def __init__(self, url: str, vectors: list[dict[str, Any]], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._vectors, self._ended = url, vectors, stop
        self.answers: list[tuple[int, int, dict[str, Any], float]] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            number = 0
            while not self._ended.is_set():
                row = number % len(self._vectors)
                body = {"use_case": "swap", "region": "r", "entity_id": ENTITY, "features": self._vectors[row]}
                answer = client.post("/v1/predict", json=body)
                self.answers.append((row, answer.status_code, answer.json(), time.monotonic()))
                number += 1


def test_a_promotion_under_load_fails_no_request_and_mixes_no_answer(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    first = registered(servers, trained, "swap", "r", "gbm", "run_1")
    second = registered(servers, trained, "swap", "r", "gbm_two", "run_2")
    expected = {first: trained.predictions("gbm"), second: trained.predictions("gbm_two")}
    promote(servers, "swap", "r", first)
    served.await_version("swap", "r", first)

    stop = threading.Event()
    clients = [Requests(served.settings.sidecar.url, trained.vectors(), stop) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    moves = []
    for version in (second, first, second):
        time.sleep(0.7)
        promote(servers, "swap", "r", version)
        moves.append((version, time.monotonic()))
        served.await_version("swap", "r", version)
    time.sleep(0.5)
    stop.set()
    for client in clients:
        client.join()

    answers = [answer for client in clients for answer in client.answers]
    assert len(answers) > 200
    for row, status, answer, _ in answers:
        assert status == 200, answer
        right = expected[answer["model"]["version"]][row]
        assert (answer["prediction"], answer["probabilities"]) == (right["prediction"], right["probabilities"])
    for version, moved in moves:
        seen = min(at for _, _, answer, at in answers if at > moved and answer["model"]["version"] == version)
        assert seen - moved < 5


def test_copies_on_the_disk_that_no_champion_needs_go_with_the_next_change(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    copies = servers.state_folder / "serving"
    needed = {path.name for path in copies.iterdir() if sha256_of(path) == sha256_of(trained.mojo("gbm"))}
    old, recent = copies / f"{'0' * 64}.zip", copies / f"{'1' * 64}.zip"
    for path in (old, recent):
        path.write_bytes(b"of a version that is no champion any more")
    for path in (old, *(copies / name for name in needed)):
        os.utime(path, (time.time() - 7200,) * 2)
    promote(servers, "tidy", "r", registered(servers, trained, "tidy", "r", "glm"))
    served.await_version("tidy", "r", 1)
    until = time.monotonic() + 10
    while old.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert recent.exists(), "another sidecar of the same folder may be about to load it"
    assert {path.name for path in copies.iterdir()} >= needed
    assert needed
    recent.unlink()
