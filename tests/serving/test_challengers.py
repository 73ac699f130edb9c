"""Canary and shadow in a running sidecar, set in the registry while requests run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

import pytest

from mage_platform.contracts import ChallengerMode
from mage_platform.database import connect
from mage_platform.registry import end_challenger, set_challenger
from mage_platform.settings import Settings
from tests.serving.open_loop import open_loop
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered

pytestmark = pytest.mark.integration
BY = {"changed_by": "test", "reason": "test"}
ENTITIES = [str(uuid5(UUID(int=7), str(number))) for number in range(300)]


def challenge(settings: Settings, use_case: str, version: int, mode: ChallengerMode, share: float) -> None:
    with connect(settings) as connection:
        set_challenger(connection, use_case=use_case, region="r", version=version, mode=mode, share=share, **BY)


def in_list(served: Sidecar, use_case: str) -> dict[str, Any]:
    models = served.client.get("/v1/models").json()["models"]
    return next(dict(each) for each in models if each["use_case"] == use_case)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(served: Sidecar, trained: Trained, use_case: str) -> dict[str, dict[str, Any]]:
    """One answer for each entity, to the first vector."""
    found = {}
    for entity in ENTITIES:
        answer = served.predict(use_case, "r", trained.vectors()[0], entity_id=entity)
        assert answer.status_code == 200, answer.text
        found[entity] = answer.json()
    return found


def test_a_canary_answers_its_entities_and_always_the_same_ones(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    names = {1: "gbm", 2: "gbm_two"}
    for version, name in names.items():
        assert registered(servers, trained, "canary", "r", name, f"run_{version}") == version
    promote(servers, "canary", "r", 1)
    served.await_version("canary", "r", 1)
    right = {version: trained.predictions(name)[0]["probabilities"] for version, name in names.items()}

    taken: list[set[str]] = []
    for share in (0.2, 0.2, 0.6):
        challenge(servers, "canary", 2, "canary", share)
        until(lambda share=share: (in_list(served, "canary")["challenger"] or {}).get("share") == share)  # type: ignore[misc]
        until(lambda: in_list(served, "canary")["challenger"]["in_memory"])
        found = answers(served, trained, "canary")
        for answer in found.values():
            version = answer["model"]["version"]
            assert answer["probabilities"] == right[version]
            assert answer["variant"] == ("canary" if version == 2 else "champion")
        taken.append({entity for entity, answer in found.items() if answer["variant"] == "canary"})
    assert taken[0] == taken[1]
    assert taken[1] < taken[2]
    assert 30 < len(taken[0]) < 90
    assert 140 < len(taken[2]) < 220

    promote(servers, "canary", "r", 2)
    served.await_version("canary", "r", 2)
    until(lambda: in_list(served, "canary")["challenger"] is None)
    assert {(each["variant"], each["model"]["version"]) for each in answers(served, trained, "canary").values()} == {
        ("champion", 2)
    }


def test_a_shadow_leaves_every_answer_to_the_champion(served: Sidecar, servers: Settings, trained: Trained) -> None:
    names = {1: "gbm", 2: "xgboost"}
    for version, name in names.items():
        registered(servers, trained, "shadow", "r", name, f"run_{version}")
    promote(servers, "shadow", "r", 1)
    served.await_version("shadow", "r", 1)
    vectors, right = trained.vectors(), trained.predictions("gbm")

    def body(number: int) -> dict[str, Any]:
        features = vectors[number % len(vectors)]
        return {"use_case": "shadow", "region": "r", "entity_id": ENTITIES[number % 300], "features": features}

    with open_loop(served.settings.sidecar.url, body, rate=100) as load:
        load.await_answers(50)
        challenge(servers, "shadow", 2, "shadow", 1.0)
        until(lambda: (in_list(served, "shadow")["challenger"] or {}).get("in_memory", False))
        load.await_answers(150)
        with connect(servers) as connection:
            end_challenger(connection, use_case="shadow", region="r", **BY)
        until(lambda: in_list(served, "shadow")["challenger"] is None)
    assert load.lost == []
    for answer in load.answers:
        assert answer.status == 200, answer.body
        expected = right[answer.number % len(vectors)]["probabilities"]
        assert (answer.body["probabilities"], answer.body["variant"]) == (expected, "champion")


def test_a_challenger_that_is_refused_leaves_its_champion_alone_and_is_said(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    for number, name in enumerate(("gbm", "gbm_two"), 1):
        registered(servers, trained, "no_canary", "r", name, f"run_{number}")
    promote(servers, "no_canary", "r", 1)
    served.await_version("no_canary", "r", 1)
    with connect(servers) as connection:
        connection.execute(
            "UPDATE platform.model_versions SET signature = NULL, signed_by = NULL "
            "WHERE use_case = 'no_canary' AND version = 2"
        )
    challenge(servers, "no_canary", 2, "canary", 1.0)

    def faults() -> list[dict[str, Any]]:
        return [each for each in served.readiness()["not_loaded"] if each["use_case"] == "no_canary"]

    until(lambda: bool(faults()))
    (fault,) = faults()
    assert (fault["alias"], fault["version"], fault["served_version"]) == ("challenger", 2, 1)
    assert "is not signed" in fault["reason"]
    answer = served.predict("no_canary", "r", trained.vectors()[0]).json()
    assert (answer["model"]["version"], answer["variant"]) == (1, "champion")
    (line,) = [each for each in served.logged("model refused") if each["use_case"] == "no_canary"]
    assert (line["alias"], line["audit"], line["keeps_serving"]) == ("challenger", True, 1)
    with connect(servers) as connection:
        end_challenger(connection, use_case="no_canary", region="r", **BY)
    until(lambda: not faults())
