"""Champions come and go while requests run; how they fail is in `test_refused_models`."""

from __future__ import annotations

import os
import time

import pytest

from mage_platform.registry import sha256_of
from mage_platform.settings import Settings
from tests.serving.open_loop import open_loop
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered

pytestmark = pytest.mark.integration


def test_promotions_under_open_load_fail_no_request_and_mix_no_answer(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    names = {1: "gbm", 2: "gbm_two", 3: "glm"}
    for version, name in names.items():
        assert registered(servers, trained, "swap", "r", name, f"run_{version}") == version
    expected = {version: trained.predictions(name) for version, name in names.items()}
    promote(servers, "swap", "r", 1)
    served.await_version("swap", "r", 1)
    vectors = trained.vectors()

    def body(number: int) -> dict[str, object]:
        features = vectors[number % len(vectors)]
        return {"use_case": "swap", "region": "r", "entity_id": ENTITY, "features": features}

    moves = []
    with open_loop(served.settings.sidecar.url, body, rate=120) as load:
        for version in (2, 3, 1, 2, 3):
            load.await_answers(50)
            promote(servers, "swap", "r", version)
            moves.append((version, time.monotonic()))
            served.await_version("swap", "r", version)
        load.await_answers(50)

    assert load.lost == []
    for answer in load.answers:
        assert answer.status == 200, answer.body
        right = expected[answer.body["model"]["version"]][answer.number % len(vectors)]
        assert answer.body["model"]["algorithm"] == names[answer.body["model"]["version"]]
        assert (answer.body["prediction"], answer.body["probabilities"]) == (
            right["prediction"],
            right["probabilities"],
        )
        assert answer.body["variant"] == "champion"
    for version, moved in moves:
        assert any(each.at > moved and each.body["model"]["version"] == version for each in load.answers)


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
