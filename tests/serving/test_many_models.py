"""More models than there is room for: each is loaded when it is asked for, and memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

pytestmark = pytest.mark.integration
REGIONS = [f"r{number:02d}" for number in range(16)]
KINDS = ("gbm", "glm", "xgboost")
ROOM = 4
LEAK_MIB = 16
"""Growth over 400 loadings. Left behind, each would keep 16 KiB of this process for its rows beside what Python holds
of it, and up to 400 KiB of a Java heap of 64 MiB, which would be full after half of them."""


def kind(region: str) -> str:
    return KINDS[REGIONS.index(region) % len(KINDS)]


@pytest.fixture(scope="module")
def small(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with room for four models, and sixteen to serve."""
    for region in REGIONS:
        version = registered(servers, trained, "many", region, kind(region))
        promote(servers, "many", region, version)
    settings = with_ports(servers, sidecar=free_port())
    variables = {"SIDECAR__MODELS_IN_MEMORY": str(ROOM), "SIDECAR__JAVA_HEAP_MIB": "64", "SIDECAR__WORKERS": "1"}
    with sidecar(settings, tmp_path_factory.mktemp("small"), **variables) as started:
        yield started


def check(served: Sidecar, trained: Trained, region: str, row: int) -> None:
    answer = served.predict("many", region, trained.vectors()[row])
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["region"] == region
    assert answer.json()["probabilities"] == trained.predictions(kind(region))[row]["probabilities"]


def test_every_model_answers_and_no_more_are_in_memory_than_there_is_room_for(small: Sidecar, trained: Trained) -> None:
    for turn in range(2):
        for region in REGIONS:
            check(small, trained, region, turn)
            state = small.readiness()
            assert state["models"] <= ROOM
            assert state["status"] == "ready"
    assert state["known"] >= len(REGIONS)
    listed = [each for each in small.client.get("/v1/models").json()["models"] if each["use_case"] == "many"]
    assert [each["region"] for each in listed] == REGIONS
    assert sum(each["in_memory"] for each in listed) <= ROOM
    assert small.client.get("/v1/models/many/r00").json()["model"]["algorithm"] == "gbm"
    unknown = small.predict("many", "nowhere", trained.vectors()[0])
    assert unknown.status_code == 404


def test_a_popular_model_is_loaded_once_while_others_come_and_go(small: Sidecar, trained: Trained) -> None:
    def loadings() -> int:
        lines = small.logged("model served")
        return sum((each["use_case"], each["region"]) == ("many", "r05") for each in lines)

    for row in range(60):
        check(small, trained, "r05", row)
    before = loadings()
    for region in REGIONS:
        check(small, trained, region, 3)
    check(small, trained, "r05", 4)
    assert loadings() == before


def test_requests_that_ask_for_the_same_model_at_once_wait_for_one_loading(small: Sidecar, trained: Trained) -> None:
    # Pushed out by others that are asked for more.
    for _ in range(30):
        for region in ("r00", "r01", "r02", "r03"):
            check(small, trained, region, 0)
    before = len([each for each in small.logged("model served") if each["region"] == "r09"])

    def ask(row: int) -> httpx.Response:
        body = {"use_case": "many", "region": "r09", "entity_id": ENTITY, "features": trained.vectors()[row]}
        return httpx.post(f"{small.settings.sidecar.url}/v1/predict", json=body, timeout=20)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    for row, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == trained.predictions(kind("r09"))[row]["probabilities"]
    after = len([each for each in small.logged("model served") if each["region"] == "r09"])
    assert after == before + 1


def resident_mib(served: Sidecar) -> float:
    return int(Path(f"/proc/{served.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def test_memory_stays_flat_through_hundreds_of_loadings(small: Sidecar, trained: Trained) -> None:
    def cycles(count: int) -> None:
        for number in range(count):
            check(small, trained, REGIONS[number % len(REGIONS)], number)

    began = len(small.logged("model served"))
    cycles(200)
    before = resident_mib(small)
    cycles(400)
    assert len(small.logged("model served")) - began > 400
    assert resident_mib(small) - before < LEAK_MIB
