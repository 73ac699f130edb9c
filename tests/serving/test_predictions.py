"""What the prediction API answers, and how it refuses. Real JVM, PostgreSQL and Valkey."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb

from mage_platform.contracts import PredictResponse
from mage_platform.database import connect
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained

pytestmark = pytest.mark.integration
MODELS = {"north": "gbm", "south": "glm", "east": "xgboost"}


def send(served: Sidecar, body: str | bytes) -> httpx.Response:
    return served.client.post("/v1/predict", content=body)


def faults(answer: httpx.Response) -> dict[str, tuple[str, Any]]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert set(problem) == {"type", "title", "status", "detail", "instance", "errors"}
    return {fault["field"]: (fault["message"], fault["value"]) for fault in problem["errors"]}


@pytest.mark.parametrize("region", MODELS)
def test_answers_equal_h2os_own_predictions_to_the_last_bit(served: Sidecar, trained: Trained, region: str) -> None:
    vectors, predictions = trained.vectors(), trained.predictions(MODELS[region])
    assert len(vectors) == 1500
    for features, expected in zip(vectors, predictions, strict=True):
        answer = served.predict("delays", region, features)
        assert answer.status_code == 200, answer.text
        got = answer.json()
        assert {"prediction": got["prediction"], "probabilities": got["probabilities"]} == expected


def test_the_answer_is_the_contract(served: Sidecar, trained: Trained) -> None:
    answer = served.predict("delays", "south", trained.vectors()[0])
    response = PredictResponse.model_validate_json(answer.content)
    assert str(response.entity_id) == ENTITY
    assert (response.model.region, response.model.version, response.model.algorithm) == ("south", 1, "glm")


def test_spelling_of_a_vector_does_not_matter(served: Sidecar, trained: Trained) -> None:
    features = trained.vectors()[1]
    reversed_keys = dict(reversed(features.items())) | {"month": float(features["month"])}
    without_missing = {name: value for name, value in features.items() if value is not None}
    first, *others = [
        served.predict("delays", "north", vector).json()["probabilities"]
        for vector in (features, reversed_keys, without_missing)
    ]
    assert others == [first, first]


def test_every_fault_of_a_vector_is_named_with_value_and_rule(served: Sidecar) -> None:
    body = """{"use_case": "delays", "region": "north", "entity_id": "%s", "features": {
        "month": 13, "distance": NaN, "temperature": "1", "gate": 4, "weekend": 1, "color": "red"}}"""
    answer = send(served, body % ENTITY)
    assert answer.status_code == 422
    assert faults(answer) == {
        "features.month": ("must be at most 12", 13),
        "features.distance": ("must be finite", "nan"),
        "features.temperature": ("must be a number", "1"),
        "features.gate": ("must be text", 4),
        "features.weekend": ("must be true or false", 1),
        "features.terminals": ("is missing", None),
        "features.color": ("is not a feature of this model", "red"),
    }


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("month", 0, "must be at least 1"),
        ("month", 1.5, "must be a whole number"),
        ("month", True, "must be a whole number"),
        ("month", None, "must not be null"),
        ("distance", True, "must be a number"),
        ("distance", 6000.5, "must be at most 6000"),
        ("temperature", [], "must be a number"),
        ("gate", None, "must not be null"),
        ("carrier", {"code": "AA"}, "must be text"),
    ],
)
def test_a_wrong_value_is_refused(served: Sidecar, trained: Trained, name: str, value: Any, rule: str) -> None:
    answer = served.predict("delays", "north", trained.vectors()[0] | {name: value})
    assert answer.status_code == 422
    message, echoed = faults(answer)[f"features.{name}"]
    assert message == rule
    assert echoed == (value if isinstance(value, bool | int | float | None) else str(value))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "-Infinity", "NaN"])
def test_numbers_that_are_none_are_refused(served: Sidecar, trained: Trained, number: str) -> None:
    features = json.dumps(trained.vectors()[0] | {"temperature": "HERE"}).replace('"HERE"', number)
    body = f'{{"use_case": "delays", "region": "north", "entity_id": "{ENTITY}", "features": {features}}}'
    answer = send(served, body)
    assert answer.status_code == 422
    assert faults(answer)["features.temperature"][0] == "must be finite"


def test_faults_of_the_request_and_of_its_vector_come_together(served: Sidecar) -> None:
    body = {"use_case": "delays", "region": "north", "entity_id": "flight 7", "event_time": "2026-01-01T00:00:00"}
    answer = send(served, json.dumps(body | {"features": {"month": "May"}, "colour": 1}))
    assert answer.status_code == 422
    found = faults(answer)
    assert found["entity_id"] == ("must be a UUID, such as 7cf06540-e6e0-54cb-8483-c525c4b50d97", "flight 7")
    assert found["event_time"] == ("must have a time zone, as in 2026-01-31T12:00:00Z", "2026-01-01T00:00:00")
    assert found["colour"] == ("is not a field of this request", 1)
    assert found["features.month"] == ("must be a whole number", "May")
    assert found["features.distance"] == ("is missing", None)


def test_an_unknown_region_is_named_with_those_that_are_served(served: Sidecar, trained: Trained) -> None:
    answer = served.predict("delays", "west", trained.vectors()[0])
    assert answer.status_code == 404
    assert faults(answer) == {"region": ("has no model; served: 'east', 'north', 'south'", "west")}


def test_an_unknown_use_case_is_named_with_where_to_look(served: Sidecar, trained: Trained) -> None:
    answer = served.predict("weather", "north", trained.vectors()[0])
    assert answer.status_code == 404
    assert faults(answer)["use_case"][1] == "weather"
    assert "GET /v1/models" in answer.json()["detail"]


@pytest.mark.parametrize("body", ["", "{", "flights", '{"use_case": "delays",}', b"\xff\xfe"])
def test_a_body_that_is_no_json_is_a_400(served: Sidecar, body: str | bytes) -> None:
    answer = send(served, body)
    assert answer.status_code == 400
    assert faults(answer) == {}


@pytest.mark.parametrize("body", ["[]", "1", "null", "{}"])
def test_json_that_is_no_request_is_a_422(served: Sidecar, body: str) -> None:
    answer = send(served, body)
    assert answer.status_code == 422
    assert faults(answer)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("region", 7, "must be text"),
        ("region", "", "must not be empty"),
        ("region", "x" * 101, "must have at most 100 characters"),
        ("region", "JFK\n", "must not hold a slash or a control character"),
        ("use_case", "Delays", "must be lower-case letters, digits and underscores, a letter first, at most 63"),
        ("entity_id", 7, "must be a UUID, as text"),
        ("features", [1], "must be an object"),
        ("event_time", "noon", "must be a time with its zone, as in 2026-01-31T12:00:00Z"),
        ("event_time", True, "must be a time with its zone, as in 2026-01-31T12:00:00Z"),
        ("event_time", 1700000000, "must be a time with its zone, as in 2026-01-31T12:00:00Z"),
        ("event_time", 1.7e9, "must be a time with its zone, as in 2026-01-31T12:00:00Z"),
        ("event_time", "1700000000", "must be a time with its zone, as in 2026-01-31T12:00:00Z"),
        ("event_time", "2026-01-31", "must have a time zone, as in 2026-01-31T12:00:00Z"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule_in_plain_words(
    served: Sidecar, field: str, value: Any, rule: str
) -> None:
    body = {"use_case": "delays", "region": "north", "entity_id": ENTITY, field: value}
    answer = send(served, json.dumps(body))
    assert answer.status_code == 422
    assert faults(answer)[field][0] == rule
    assert answer.json()["detail"] == f"{field} {rule}"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/jsonp"),
        ("content-encoding", "gzip"),
    ],
)
def test_a_body_said_to_be_something_else_than_json_is_a_415(
    served: Sidecar, trained: Trained, header: str, value: str
) -> None:
    body = {"use_case": "delays", "region": "north", "entity_id": ENTITY, "features": trained.vectors()[0]}
    answer = served.client.post("/v1/predict", content=json.dumps(body), headers={header: value})
    assert answer.status_code == 415
    assert faults(answer)[header][1] == value
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.delays+json"):
        answer = served.client.post("/v1/predict", content=json.dumps(body), headers={"content-type": kind})
        assert answer.status_code == 200, answer.text


def test_a_body_over_the_limit_is_a_413(served: Sidecar) -> None:
    assert send(served, b" " * (1 << 20) + b" ").status_code == 413

    def endless() -> Any:
        for _ in range(40):
            yield b" " * (1 << 16)

    with httpx.Client(base_url=served.settings.sidecar.url) as client:
        answer = client.post("/v1/predict", content=endless())
    assert answer.status_code == 413
    assert faults(answer) == {}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/predict", 405),
        ("POST", "/v1/predict/", 404),
        ("GET", "/v1/models/delays/north/", 404),
    ],
)
def test_addresses_and_methods_are_problems_too(served: Sidecar, method: str, path: str, status: int) -> None:
    answer = served.client.request(method, path)
    assert answer.status_code == status
    assert faults(answer) == {}


def store(settings: Settings, entity: uuid.UUID, event_time: datetime, vector: dict[str, Any], region: str) -> None:
    with connect(settings) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
            "VALUES (%s, %s, %s, 'delays', %s)",
            [entity, event_time, Jsonb(vector), region],
        )


def test_by_entity_the_newest_vector_counts(served: Sidecar, servers: Settings, trained: Trained) -> None:
    entity, start = uuid.uuid4(), datetime(2026, 5, 1, tzinfo=UTC)
    vectors, predictions = trained.vectors(), trained.predictions("gbm")
    for day in (0, 2, 1):
        store(servers, entity, start + timedelta(days=day), vectors[day], "north")

    newest = served.predict("delays", "north", None, entity_id=str(entity))
    assert newest.json()["probabilities"] == predictions[2]["probabilities"]
    assert newest.json()["entity_id"] == str(entity)

    moment = (start + timedelta(days=1, hours=5)).isoformat()
    then = served.predict("delays", "north", None, entity_id=str(entity), event_time=moment)
    assert then.json()["probabilities"] == predictions[1]["probabilities"]

    before = served.predict("delays", "north", None, entity_id=str(entity), event_time="2026-04-01T00:00:00Z")
    assert before.status_code == 404
    other_region = served.predict("delays", "south", None, entity_id=str(entity))
    assert other_region.status_code == 404


def test_an_unknown_entity_is_named(served: Sidecar) -> None:
    entity = str(uuid.uuid4())
    answer = served.predict("delays", "north", None, entity_id=entity)
    assert answer.status_code == 404
    assert faults(answer) == {"entity_id": ("has no stored feature vector", entity)}


def test_a_stored_vector_that_does_not_fit_is_named(served: Sidecar, servers: Settings, trained: Trained) -> None:
    entity = uuid.uuid4()
    store(servers, entity, datetime(2026, 5, 1, tzinfo=UTC), trained.vectors()[0] | {"month": 99}, "north")
    answer = served.predict("delays", "north", None, entity_id=str(entity))
    assert answer.status_code == 422
    assert faults(answer) == {"features.month": ("must be at most 12", 99)}
    assert "2026-05-01" in answer.json()["detail"]


def test_models_are_listed_with_metrics_and_lineage(served: Sidecar) -> None:
    listed = served.client.get("/v1/models").json()["models"]
    mine = [model for model in listed if model["use_case"] == "delays"]
    assert [model["region"] for model in mine] == ["east", "north", "south"]
    assert mine[0]["metrics"]["auc"] > mine[0]["naive_metrics"]["auc"]

    details = served.client.get("/v1/models/delays/north").json()
    assert details["model"]["run"] == "run_1"
    assert details["model"]["rows"] == {"train": 2000}
    assert details["model"]["h2o_version"] == "3.46.0.11"
    assert len(details["model"]["mojo_sha256"]) == 64
    assert details["model"]["window"]["train_until"] == "2026-01-01T00:00:00Z"
    assert details["classes"] == ["0", "1"]
    assert datetime.fromisoformat(details["since"]).tzinfo is not None

    assert faults(served.client.get("/v1/models/delays/west"))["region"][1] == "west"


def test_the_examples_of_the_documentation_are_answered(served: Sidecar) -> None:
    document = served.client.get("/openapi.json").json()
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    by_features = body["examples"]["features"]["value"]
    assert served.client.post("/v1/predict", json=by_features).status_code == 200
    by_entity = served.client.post("/v1/predict", json=body["examples"]["entity"]["value"])
    assert by_entity.status_code == 404  # a real request; nothing is stored for that entity
    for model in served.client.get("/v1/models").json()["models"]:
        example = served.client.get(f"/v1/models/{model['use_case']}/{model['region']}").json()["example"]
        assert served.client.post("/v1/predict", json=example).status_code == 200


def test_every_refusal_in_the_documentation_is_a_problem(served: Sidecar) -> None:
    document = served.client.get("/openapi.json").json()
    kinds = [
        (path, status, list(answer.get("content", {})))
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status >= "400" and path != "/health/ready"
    ]
    assert kinds
    # The Open Inference Protocol has a form of its own for errors.
    forms = {path: "application/json" if path.startswith("/v2") else "application/problem+json" for path, _, _ in kinds}
    assert not [each for each in kinds if each[2] != [forms[each[0]]]]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_documentation_needs_no_network(served: Sidecar) -> None:
    page = served.client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs/assets/{asset}" in page
        assert served.client.get(f"/docs/assets/{asset}").status_code == 200
