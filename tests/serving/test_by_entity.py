"""Predictions by entity: what the request replaces, and the default where nothing fitting is stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg.types.json import Jsonb

from mage_platform.contracts import POOLED, ExplainResponse, PredictResponse
from mage_platform.database import connect
from mage_platform.local.embedded import on_free_ports
from mage_platform.settings import Settings
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered, sidecar

pytestmark = pytest.mark.integration
USE_CASE = "entities"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
PATHS = ("/v1/predict", "/v1/explain")


@pytest.fixture(scope="module")
def served(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    plain = registered(servers, trained, USE_CASE, "strict", "gbm")
    lenient = registered(
        servers, trained, USE_CASE, "lenient", "gbm", run="lenient",
        maximum_vector_age_seconds=3600, default_features=trained.vectors()[50],
    )  # fmt: skip
    promote(servers, USE_CASE, "strict", plain)
    promote(servers, USE_CASE, "lenient", lenient)
    promote(
        servers, "entities_of_all", POOLED,
        registered(servers, trained, "entities_of_all", POOLED, "gbm", region_feature="carrier"),
    )  # fmt: skip
    own = servers.model_copy(update={"sidecar": on_free_ports(servers).sidecar})  # another one may be running
    with sidecar(own, tmp_path_factory.mktemp("entities")) as running:
        running.await_version(USE_CASE, "strict", 1)
        running.await_version(USE_CASE, "lenient", 1)
        running.await_version("entities_of_all", POOLED, 1)
        yield running


def store(settings: Settings, features: dict[str, Any], region: str, use_case: str = USE_CASE) -> UUID:
    entity = uuid4()
    with connect(settings) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
            "VALUES (%s, %s, %s, %s, %s)",
            [entity, NOON, Jsonb(features), use_case, region],
        )
    return entity


def ask(served: Sidecar, path: str, entity: UUID, region: str = "strict", **more: Any) -> httpx.Response:
    body = {"use_case": USE_CASE, "region": region, "entity_id": str(entity), **more}
    return served.client.post(path, json=body)


def read(path: str, answer: httpx.Response) -> PredictResponse | ExplainResponse:
    assert answer.status_code == 200, answer.text
    contract = PredictResponse if path == "/v1/predict" else ExplainResponse
    return contract.model_validate_json(answer.content)


def faults(answer: httpx.Response, status: int) -> dict[str, str]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return {fault["field"]: fault["message"] for fault in answer.json()["errors"]}


@pytest.mark.parametrize("path", PATHS)
def test_overrides_replace_features_of_the_newest_vector(
    served: Sidecar, servers: Settings, trained: Trained, path: str
) -> None:
    """Row 61 is stored; with all that tells it from row 60 replaced, H2O's prediction is the one of row 60."""
    wanted, stored = trained.vectors()[60], trained.vectors()[61]
    entity = store(servers, stored, "strict")
    differing = {name: value for name, value in wanted.items() if value != stored[name]}
    assert 0 < len(differing) < len(wanted)
    for overrides, row in (({}, 61), (None, 61), (differing, 60)):
        got = read(path, ask(served, path, entity, overrides=overrides))
        assert got.probabilities == trained.predictions("gbm")[row]["probabilities"]
        assert got.vector is not None
        assert (got.vector.source, got.vector.event_time) == ("stored", NOON)
        assert got.vector.overridden == list(overrides or {})
    if isinstance(got, ExplainResponse):
        assert {each.feature: each.value for each in got.contributions} == wanted


@pytest.mark.parametrize("path", PATHS)
def test_features_and_overrides_exclude_each_other(served: Sidecar, trained: Trained, path: str) -> None:
    features = trained.vectors()[0]
    answer = ask(served, path, uuid4(), features=features, overrides={"month": 3})
    assert "cannot stand beside `features`" in faults(answer, 422)["overrides"]
    assert answer.json()["type"] == "urn:problem:mage-platform:request-invalid"


def test_a_request_with_its_own_features_says_nothing_of_a_stored_vector(served: Sidecar, trained: Trained) -> None:
    assert "vector" not in ask(served, "/v1/predict", uuid4(), features=trained.vectors()[0]).json()
    with_null = ask(served, "/v1/predict", uuid4(), features=trained.vectors()[0], overrides=None)
    assert "vector" not in with_null.json()


@pytest.mark.parametrize("path", PATHS)
def test_wrong_overrides_are_named_as_they_were_sent(
    served: Sidecar, servers: Settings, trained: Trained, path: str
) -> None:
    entity = store(servers, trained.vectors()[0], "strict")
    named = faults(ask(served, path, entity, overrides={"month": "June", "moon": 1, "weekend": None}), 422)
    assert named == {
        "overrides.month": "must be a whole number",
        "overrides.weekend": "must not be null",
        "overrides.moon": "is not a feature of this model",
    }
    assert faults(ask(served, path, entity, overrides=[1]), 422) == {"overrides": "must be an object"}


def test_overrides_mend_a_stored_vector_that_does_not_fit(served: Sidecar, servers: Settings, trained: Trained) -> None:
    entity = store(servers, {**trained.vectors()[60], "month": 13}, "strict")
    refused = ask(served, "/v1/predict", entity, overrides={"distance": 100.0})
    assert faults(refused, 422) == {"features.month": "must be at most 12"}
    assert "the stored vector of 2026-05-01T12:00:00+00:00 does not fit" in refused.json()["detail"]
    mended = ask(served, "/v1/predict", entity, overrides={"month": trained.vectors()[60]["month"]})
    assert read("/v1/predict", mended).probabilities == trained.predictions("gbm")[60]["probabilities"]


@pytest.mark.parametrize("path", PATHS)
def test_a_missing_vector_is_refused_where_no_default_is_declared(served: Sidecar, path: str) -> None:
    answer = ask(served, path, uuid4(), overrides={"month": 3})
    assert faults(answer, 404) == {"entity_id": "has no stored feature vector"}


@pytest.mark.parametrize("path", PATHS)
def test_a_missing_or_old_vector_is_answered_by_the_declared_default_which_says_so(
    served: Sidecar, servers: Settings, trained: Trained, path: str
) -> None:
    old = store(servers, trained.vectors()[60], "lenient")
    expected = trained.predictions("gbm")[50]["probabilities"]
    for entity, moment in ((uuid4(), NOON), (old, datetime(2026, 5, 1, 13, 0, 1, tzinfo=UTC))):
        got = read(path, ask(served, path, entity, "lenient", event_time=moment.isoformat()))
        assert got.probabilities == expected
        assert got.vector is not None
        assert (got.vector.source, got.vector.event_time, got.vector.overridden) == ("default", None, [])
    young = read(path, ask(served, path, old, "lenient", event_time="2026-05-01T13:00:00Z"))
    assert young.vector is not None and young.vector.source == "stored"
    assert young.probabilities == trained.predictions("gbm")[60]["probabilities"]


def test_overrides_replace_features_of_the_default_too(served: Sidecar, trained: Trained) -> None:
    wanted, default = trained.vectors()[70], trained.vectors()[50]
    differing = {name: value for name, value in wanted.items() if value != default[name]}
    got = read("/v1/predict", ask(served, "/v1/predict", uuid4(), "lenient", overrides=differing))
    assert got.probabilities == trained.predictions("gbm")[70]["probabilities"]
    assert got.vector is not None
    assert (got.vector.source, got.vector.overridden) == ("default", list(differing))
    named = faults(ask(served, "/v1/predict", uuid4(), "lenient", overrides={"month": 0}), 422)
    assert named == {"overrides.month": "must be at least 1"}


def test_the_region_of_the_pooled_model_is_not_overridden(served: Sidecar, servers: Settings, trained: Trained) -> None:
    stored = {name: value for name, value in trained.vectors()[60].items() if name != "carrier"}
    entity = store(servers, stored, "UA", "entities_of_all")
    body = {"use_case": "entities_of_all", "region": "UA", "entity_id": str(entity)}
    answer = served.client.post("/v1/predict", json={**body, "overrides": {"carrier": "DL"}})
    assert faults(answer, 422) == {"overrides.carrier": "is the region, which the request names"}
    assert served.client.post("/v1/predict", json=body).json()["fallback"] is True
