"""Several classes, numbers, and the pooled model behind regions without one of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mage_platform.contracts import POOLED, PredictResponse
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar

pytestmark = pytest.mark.integration
KINDS = {"bands": "three_classes", "minutes": "number"}
ROWS = 300


@pytest.fixture(scope="module")
def served(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for use_case, model in KINDS.items():
        promote(servers, use_case, "north", registered(servers, trained, use_case, "north", model))
    # the carriers as regions: one has a model of its own, all others are answered by the pooled one
    pooled = registered(servers, trained, "carriers", POOLED, "gbm", region_feature="carrier")
    promote(servers, "carriers", POOLED, pooled)
    promote(servers, "carriers", "DL", registered(servers, trained, "carriers", "DL", "gbm_two"))
    with sidecar(servers, tmp_path_factory.mktemp("kinds"), SIDECAR__PREDICTION_CACHE="always") as running:
        for use_case, region in (("bands", "north"), ("minutes", "north"), ("carriers", POOLED), ("carriers", "DL")):
            running.await_version(use_case, region, 1)
        yield running


def answered(served: Sidecar, use_case: str, region: str, features: dict[str, Any]) -> dict[str, Any]:
    answer = served.predict(use_case, region, features)
    assert answer.status_code == 200, answer.text
    return dict(PredictResponse.model_validate_json(answer.content))


@pytest.mark.parametrize("use_case", KINDS)
def test_answers_equal_h2os_own_predictions_to_the_last_bit(served: Sidecar, trained: Trained, use_case: str) -> None:
    expected = trained.predictions(KINDS[use_case])[:ROWS]
    for _ in range(2):  # scored, and from the cache
        got = [answered(served, use_case, "north", features) for features in trained.vectors()[:ROWS]]
        assert [{"prediction": each["prediction"], "probabilities": each["probabilities"]} for each in got] == expected
    assert any(each["cached"] for each in got)  # a slow moment of the cache is left out
    assert not any(each["fallback"] for each in got)


def test_a_region_without_a_model_is_answered_by_the_pooled_one_which_says_so(
    served: Sidecar, trained: Trained
) -> None:
    """The model of all carriers, asked without the carrier: it takes the region for it."""
    rows = [
        (features, expected)
        for features, expected in zip(trained.vectors()[:ROWS], trained.predictions("gbm"), strict=False)
        if features["carrier"] == "UA"
    ]
    assert len(rows) > 20
    for features, expected in rows:
        asked = {name: value for name, value in features.items() if name != "carrier"}
        got = answered(served, "carriers", "UA", asked)
        assert (got["probabilities"], got["fallback"]) == (expected["probabilities"], True)
        assert (got["model"].region, got["model"].version) == (POOLED, 1)


def test_a_region_of_its_own_is_never_answered_by_the_pooled_model(served: Sidecar, trained: Trained) -> None:
    features = trained.vectors()[5]
    got = answered(served, "carriers", "DL", features)
    assert (got["model"].region, got["fallback"]) == ("DL", False)
    assert got["probabilities"] == trained.predictions("gbm_two")[5]["probabilities"]


def test_a_region_the_pooled_model_never_saw_counts_as_missing(served: Sidecar, trained: Trained) -> None:
    """As H2O does it with a level it does not know: the row of the test set whose carrier was unknown."""
    features = {name: value for name, value in trained.vectors()[3].items() if name != "carrier"}
    got = answered(served, "carriers", "Atlantis", features)
    assert got["probabilities"] == trained.predictions("gbm")[3]["probabilities"]


def test_the_region_is_not_sent_twice(served: Sidecar, trained: Trained) -> None:
    answer = served.predict("carriers", "UA", trained.vectors()[30])
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["features.carrier"]
    assert "is the region, which the request names" in answer.text


def test_every_fault_is_named_for_the_pooled_model_as_well(served: Sidecar) -> None:
    body = {"use_case": "carriers", "region": "UA", "entity_id": "x", "features": {"month": 13}}
    answer = served.client.post("/v1/predict", content=json.dumps(body))
    named = {fault["field"] for fault in answer.json()["errors"]}
    assert {"entity_id", "features.month", "features.distance"} <= named
    assert "features.carrier" not in named


def test_an_example_request_of_each_model_is_answered(served: Sidecar) -> None:
    for use_case, region in (("bands", "north"), ("minutes", "north"), ("carriers", POOLED), ("carriers", "DL")):
        details = served.client.get(f"/v1/models/{use_case}/{region}").json()
        answer = served.client.post("/v1/predict", json=details["example"])
        assert answer.status_code == 200, answer.text
        assert answer.json()["entity_id"] != ENTITY
