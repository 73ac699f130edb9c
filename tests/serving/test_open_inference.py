"""The Open Inference Protocol, spoken by Triton's own client; what it gets is held against H2O's own predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from mage_platform.settings import PROJECT, Settings
from serving.app import Sidecar
from serving.front_door import FrontDoor
from serving.open_inference.protocol import OpenInference
from serving.open_inference.routes import add_open_inference
from serving.repository import Repository
from tests.serving import sidecar_process
from tests.serving.sidecar_process import ENTITY, SCHEMA, Trained, promote, registered
from tests.serving.test_challengers import challenge, until

pytestmark = pytest.mark.integration
DATATYPES = {"integer": "INT64", "number": "FP64", "category": "BYTES", "boolean": "BOOL"}
NUMPY = {"INT64": np.int64, "FP64": np.float64, "FP32": np.float32, "BYTES": np.object_, "BOOL": np.bool_}
MISSING = {"nan_is_missing": True, "empty_is_missing": True}


@pytest.fixture(scope="module")
def client(served: sidecar_process.Sidecar) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.settings.sidecar.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def kinds(served: sidecar_process.Sidecar, servers: Settings, trained: Trained) -> None:
    """Models of other targets, with regions that no address takes as they are, and one of all regions."""
    for region, model in {"São Paulo, 2~": "three_classes", "*": "number"}.items():
        version = registered(servers, trained, "open_inference", region, model)
        promote(servers, "open_inference", region, version)
        served.await_version("open_inference", region, version)


def tensors(vectors: list[dict[str, Any]], *, binary: bool, **datatypes: str) -> list[triton.InferInput]:
    """Vectors as a stock client sends them: NaN and empty text where a value is missing."""
    made = []
    for name, column in SCHEMA.columns.items():
        datatype = datatypes.get(name, DATATYPES[column.type])
        gap = {"FP64": np.nan, "FP32": np.nan, "BYTES": ""}.get(datatype)
        values = [gap if vector[name] is None else vector[name] for vector in vectors]
        tensor = triton.InferInput(name, [len(vectors)], datatype)
        made.append(tensor.set_data_from_numpy(np.array(values, dtype=NUMPY[datatype]), binary_data=binary))
    return made


def predictions(result: triton.InferResult) -> list[dict[str, Any]]:
    """As H2O's own are written down in these tests."""
    found = result.as_numpy("prediction")
    probabilities = result.as_numpy("probabilities")
    if probabilities is None:
        return [{"prediction": number, "probabilities": None} for number in found.tolist()]
    text = [each.decode() if isinstance(each, bytes) else each for each in result.as_numpy("classes").tolist()]
    return [
        {
            "prediction": each.decode() if isinstance(each, bytes) else each,
            "probabilities": dict(zip(text, row, strict=True)),
        }
        for each, row in zip(found.tolist(), probabilities.tolist(), strict=True)
    ]


def gaps(vectors: list[dict[str, Any]]) -> dict[str, int]:
    """How many of the vectors have a missing value, and how many a carrier that no model was trained on."""
    return {
        "rows_with_missing": sum(None in vector.values() for vector in vectors),
        "rows_with_unknown_levels": sum(vector["carrier"] == "ZZ" for vector in vectors),
    }


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def one_row(**changed: Any) -> dict[str, Any]:
    """A request as JSON; a feature that is changed to None is left out."""
    values = {"month": 5, "distance": 800.5, "temperature": 12.0, "carrier": "AA", "gate": "4", "weekend": True}
    inputs = [
        {"name": name, "shape": [1], "datatype": DATATYPES[SCHEMA.columns[name].type], "data": [value]}
        for name, value in (values | {"terminals": 3}).items()
    ]
    return {
        "inputs": [
            each | (changed.get(each["name"], {})) for each in inputs if changed.get(each["name"], {}) is not None
        ]
    }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("region", "model"), [("north", "gbm"), ("south", "glm"), ("east", "xgboost")])
def test_a_stock_client_gets_h2os_own_predictions_to_the_last_bit(
    client: triton.InferenceServerClient, trained: Trained, region: str, model: str, binary: bool
) -> None:
    vectors = trained.vectors()
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary) for name in ("prediction", "probabilities", "classes")
    ]
    inputs = tensors(vectors, binary=binary)
    if not binary:
        # JSON has no NaN for this client's parser, and null is how a missing value is written there.
        for tensor in inputs:
            tensor._data = [None if value in ("", "None") or value != value else value for value in tensor._data]
    result = client.infer(
        f"delays.{region}",
        inputs,
        outputs=outputs,
        request_id="row 17",
        parameters=MISSING if binary else None,
    )
    assert predictions(result) == trained.predictions(model)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("row 17", f"delays.{region}", "1")
    assert answer["parameters"] == {"fallback": False, **gaps(vectors)}
    assert ("data" in result.get_output("probabilities")) is not binary


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("name", "model"),
    [("open_inference.S~C3~A3o~20Paulo~2C~202~7E", "three_classes"), ("open_inference", "number")],
)
def test_all_kinds_of_targets_are_answered_under_names_that_stand_in_any_address(
    client: triton.InferenceServerClient, trained: Trained, name: str, model: str
) -> None:
    # no output is asked for by name: then all come, as bytes
    result = client.infer(name, tensors(trained.vectors(), binary=True), parameters=MISSING)
    assert predictions(result) == trained.predictions(model)
    assert name in {each["name"] for each in client.get_model_repository_index()}


@pytest.mark.usefixtures("kinds")
def test_a_region_without_a_model_is_answered_by_the_one_of_all_regions_and_says_so(
    client: triton.InferenceServerClient, trained: Trained
) -> None:
    result = client.infer("open_inference.elsewhere", tensors(trained.vectors(), binary=True), parameters=MISSING)
    assert predictions(result) == trained.predictions("number")
    assert result.get_response()["parameters"] == {"fallback": True, **gaps(trained.vectors())}


def test_a_canary_is_asked_by_its_version(
    served: sidecar_process.Sidecar, servers: Settings, trained: Trained, client: triton.InferenceServerClient
) -> None:
    names = {"1": "gbm", "2": "gbm_two"}
    for version, name in names.items():
        registered(servers, trained, "v2_canary", "r", name, f"run_{version}")
    promote(servers, "v2_canary", "r", 1)
    served.await_version("v2_canary", "r", 1)
    assert not client.is_model_ready("v2_canary.r", "2")
    challenge(servers, "v2_canary", 2, "canary", 0.2)
    until(lambda: client.is_model_ready("v2_canary.r", "2"))
    assert client.get_model_metadata("v2_canary.r")["versions"] == ["1", "2"]
    inputs = tensors(trained.vectors(), binary=True)
    for version, name in {**names, "": "gbm"}.items():
        result = client.infer("v2_canary.r", inputs, model_version=version, parameters=MISSING)
        assert predictions(result) == trained.predictions(name)
    page = served.client.get("/?q=v2_canary").text
    assert 'canary for 20\u202f%: <a href="/v1/models/v2_canary/r/report?version=2">2</a>, 1 request<' in page


def test_the_server_and_its_models_tell_what_they_are(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("delays.north")
    assert client.is_model_ready("delays.north", "1")
    assert not client.is_model_ready("delays.north", "2")
    assert not client.is_model_ready("delays.west")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("delays.north")
    metadata["inputs"].sort(key=lambda tensor: list(SCHEMA.columns).index(tensor["name"]))
    assert metadata == {
        "name": "delays.north",
        "versions": ["1"],
        "platform": "h2o_mojo",
        "inputs": [
            {"name": "month", "datatype": "INT64", "shape": [-1]},
            {"name": "distance", "datatype": "FP64", "shape": [-1]},
            {"name": "temperature", "datatype": "FP64", "shape": [-1]},
            {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
            {"name": "gate", "datatype": "BYTES", "shape": [-1]},
            {"name": "weekend", "datatype": "BOOL", "shape": [-1]},
            {"name": "terminals", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
            {"name": "classes", "datatype": "BYTES", "shape": [2]},
        ],
    }
    ready = {"name": "delays.south", "version": "1", "state": "READY", "reason": ""}
    assert ready in client.get_model_repository_index()


def test_only_the_outputs_that_were_asked_for_come(client: triton.InferenceServerClient, trained: Trained) -> None:
    wanted = [
        triton.InferRequestedOutput("probabilities", binary_data=True),
        triton.InferRequestedOutput("prediction", binary_data=False),
    ]
    result = client.infer("delays.north", tensors(trained.vectors()[:3], binary=True), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["probabilities", "prediction"]
    expected = trained.predictions("gbm")[:3]
    assert result.as_numpy("prediction").tolist() == [each["prediction"] for each in expected]
    assert result.as_numpy("probabilities").tolist() == [list(each["probabilities"].values()) for each in expected]


def test_a_float32_is_the_float64_that_equals_it(
    served: sidecar_process.Sidecar, client: triton.InferenceServerClient, trained: Trained
) -> None:
    vectors = [vector for vector in trained.vectors() if vector["temperature"] is not None][:40]
    as_float32 = [vector | {"distance": float(np.float32(vector["distance"]))} for vector in vectors]
    assert as_float32 != vectors
    for binary in (True, False):
        inputs = tensors(vectors, binary=binary, distance="FP32")
        got = predictions(client.infer("delays.north", inputs, parameters={"empty_is_missing": True}))
        native = [served.predict("delays", "north", vector).json() for vector in as_float32]
        assert got == [{name: each[name] for name in ("prediction", "probabilities")} for each in native]


def test_small_integers_and_columns_of_one_mean_the_same(client: triton.InferenceServerClient) -> None:
    plain = one_row()
    other = one_row(month={"datatype": "UINT8", "shape": [1, 1], "data": [[5]]}, terminals={"datatype": "FP64"})
    first, second = (
        client._post("v2/models/delays.north/infer", json.dumps(body), None, None).read() for body in (plain, other)
    )
    assert json.loads(first)["outputs"] == json.loads(second)["outputs"]


def test_the_native_answer_is_the_same(served: sidecar_process.Sidecar) -> None:
    body = one_row()
    native = served.predict("delays", "north", {each["name"]: each["data"][0] for each in body["inputs"]}).json()
    prediction, probabilities, classes = served.client.post("/v2/models/delays.north/infer", json=body).json()[
        "outputs"
    ]
    assert prediction["data"] == [native["prediction"]]
    assert dict(zip(classes["data"], probabilities["data"], strict=True)) == native["probabilities"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"month": {"data": [13]}}, "inputs.month[0] must be at most 12, not 13"),
        ({"month": {"data": [5.0]}}, "inputs.month[0] must be a whole number, as INT64 is, not 5.0"),
        ({"month": {"datatype": "INT8", "data": [300]}}, "inputs.month[0] must be within the range of INT8, not 300"),
        ({"month": {"datatype": "FP64", "data": [5.5]}}, "inputs.month[0] must be a whole number, not 5.5"),
        ({"month": {"data": [None]}}, "inputs.month[0] must not be null"),
        ({"month": {"data": ["5"]}}, 'inputs.month[0] must be a whole number, as INT64 is, not "5"'),
        ({"month": {"datatype": "BYTES"}}, 'inputs.month is an integer: it must be of datatype INT64, not "BYTES"'),
        ({"month": None}, "inputs.month is missing"),
        ({"month": {"name": "mont"}}, "inputs.mont is not a feature of this model; inputs.month is missing"),
        ({"month": {"name": "gate"}}, 'inputs.gate is a category: it must be of datatype BYTES, not "INT64"'),
        ({"month": {"shape": [2]}}, "inputs.month must have as many values as its shape says, 2, not 1"),
        ({"month": {"shape": [1, 2]}}, 'inputs.month must be of shape [rows] or [rows, 1], not "[1, 2]"'),
        ({"month": {"shape": [0]}}, 'inputs.month must have 1 to 10000 rows, not "[0]"'),
        ({"weekend": {"data": [1]}}, "inputs.weekend[0] must be true or false, as BOOL is, not 1"),
        ({"gate": {"data": [4]}}, "inputs.gate[0] must be text, as BYTES is, not 4"),
        ({"gate": {"data": None}}, "inputs.gate must have data, or a binary_data_size"),
    ],
)
def test_a_wrong_tensor_is_named_with_row_rule_and_value(
    served: sidecar_process.Sidecar, changed: dict[str, Any], said: str
) -> None:
    answer = served.client.post("/v2/models/delays.north/infer", json=one_row(**changed))
    assert said in refused(answer, 400)


def test_all_faults_come_at_once(client: triton.InferenceServerClient, trained: Trained) -> None:
    vectors = [dict(vector) for vector in trained.vectors()[:400]]
    vectors[1]["month"], vectors[399]["distance"] = 0, np.inf
    with pytest.raises(InferenceServerException) as caught:
        client.infer("delays.north", tensors(vectors, binary=True), parameters=MISSING)
    assert caught.value.status() == "400"
    assert caught.value.message() == (
        'inputs.month[1] must be at least 1, not 0; inputs.distance[399] must be finite, not "inf"'
    )


def test_missing_numbers_must_be_said_to_be_missing(client: triton.InferenceServerClient, trained: Trained) -> None:
    inputs = tensors([trained.vectors()[1] | {"temperature": None}], binary=True)
    with pytest.raises(InferenceServerException, match=r"inputs.temperature\[0\] must be finite"):
        client.infer("delays.north", inputs)


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"{", {}, "the body is not valid JSON"),
        (b"{}", {}, "inputs is missing"),
        (b'{"inputs": []}', {}, "inputs.month is missing"),
        (b'{"inputs": []}', {"Inference-Header-Content-Length": "99"}, "must be the length of the JSON"),
        (b'{"inputs": []}', {"Inference-Header-Content-Length": "-1"}, "must be the length of the JSON"),
        (b'{"inputs": [{"name": "month", "shape": [1], "datatype": "INT63"}]}', {}, "inputs.0.datatype must be"),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    served: sidecar_process.Sidecar, body: bytes, headers: dict[str, str], said: str
) -> None:
    answer = served.client.post("/v2/models/delays.north/infer", content=body, headers=headers)
    assert said in refused(answer, 400)


@pytest.mark.parametrize(
    ("size", "after", "said"),
    [
        (8, b"\x05", "inputs.month must have a binary_data_size of at most the 1 bytes that are left, not 8"),
        (4, b"\x05\0\0\0", "inputs.month must have 8 bytes for 1 values of INT64, not 4"),
        (8, b"\x05" + b"\0" * 8, "body must not go on after its last tensor; 1 bytes are left over"),
        (-1, b"", "inputs.month must have a binary_data_size"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(served: sidecar_process.Sidecar, size: int, after: bytes, said: str) -> None:
    text = json.dumps(one_row(month={"data": None, "parameters": {"binary_data_size": size}})).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = served.client.post("/v2/models/delays.north/infer", content=text + after, headers=headers)
    assert said in refused(answer, 400)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (b"\x09\0\0\x004", "inputs.gate[0] must be four bytes of length and as many bytes of text; it ends before"),
        (b"\x01\0\0\0\xff", "inputs.gate[0] must be UTF-8"),
        (b"\x01\0\0\x0044", "inputs.gate must end after 1 values; 1 bytes are left over"),
    ],
)
def test_text_that_does_not_fit_is_refused(served: sidecar_process.Sidecar, gate: bytes, said: str) -> None:
    text = json.dumps(one_row(gate={"data": None, "parameters": {"binary_data_size": len(gate)}})).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = served.client.post("/v2/models/delays.north/infer", content=text + gate, headers=headers)
    assert said in refused(answer, 400)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        (
            "POST",
            "/v2/models/delays.west/infer",
            "no model for region 'west'; served regions: 'east', 'north', 'south'",
        ),
        ("GET", "/v2/models/weather.north", "use case 'weather' is not served"),
        (
            "POST",
            "/v2/models/delays.north/versions/7/infer",
            "version 7 of model 'delays.north' is not served; version",
        ),
        ("GET", "/v2/models/delays.north/config", "GET /v2/models/delays.north/config is not an address"),
        ("DELETE", "/v2/nowhere", "DELETE /v2/nowhere is not an address"),
        ("GET", "/v2/", "GET /v2/ is not an address"),
    ],
)
def test_what_does_not_exist_is_a_404_in_the_protocols_form(
    served: sidecar_process.Sidecar, method: str, path: str, said: str
) -> None:
    assert said in refused(served.client.request(method, path, json=one_row() if method == "POST" else None), 404)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v2"), ("GET", "/v2/models/delays.north/infer")])
def test_another_method_of_an_address_is_a_405(served: sidecar_process.Sidecar, method: str, path: str) -> None:
    answer = served.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (
            [{"name": "score"}],
            "outputs.score is not an output of this model, which has prediction, probabilities, classes",
        ),
        (
            [{"name": "prediction", "parameters": {"classification": 2}}],
            "outputs.prediction must be without classification",
        ),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(
    served: sidecar_process.Sidecar, outputs: list[dict[str, Any]], said: str
) -> None:
    answer = served.client.post("/v2/models/delays.north/infer", json=one_row() | {"outputs": outputs})
    assert said in refused(answer, 400)


def test_a_compressed_body_and_one_too_long_are_refused(served: sidecar_process.Sidecar) -> None:
    path = "/v2/models/delays.north/infer"
    answer = served.client.post(path, content=b"x", headers={"content-encoding": "gzip"})
    assert "content-encoding must be left out" in refused(answer, 415)
    assert "bytes that /v2/models/{name}/infer reads" in refused(
        served.client.post(path, content=b" " * (9 << 20)), 413
    )


def test_its_addresses_stand_in_the_openapi_document(served: sidecar_process.Sidecar) -> None:
    document = served.client.get("/openapi.json").json()
    body = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    answer = served.client.post("/v2/models/delays.east/infer", json=body["example"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "example"
    schema = document["components"]["schemas"]["InferenceRequest"]
    assert set(schema["properties"]) == {"id", "inputs", "outputs", "parameters"}
    assert ENTITY not in answer.text


def test_the_example_of_the_documentation_runs(
    served: sidecar_process.Sidecar, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PROJECT / "docs" / "open_inference_protocol.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    address = served.settings.sidecar.url.removeprefix("http://")
    code = code.replace("127.0.0.1:8000", address).replace("flight_delays.JFK", "delays.north")
    vectors = [vector for vector in trained.vectors() if vector["carrier"] is not None][:2]
    rows = [
        (
            name,
            DATATYPES[column.type],
            [np.nan if vector[name] is None else vector[name] for vector in vectors],
        )
        for name, column in SCHEMA.columns.items()
    ]
    exec(compile(code, "open_inference_protocol.md", "exec"), {"rows": rows})
    assert "'name': 'delays.north'" in capsys.readouterr().out


def test_a_path_with_a_prefix_is_answered_alike() -> None:
    app = Sidecar()
    app.door, app.short_ways = FrontDoor(), {}
    unread = Repository(source=None, refresh_seconds=1.0)  # type: ignore[arg-type]
    app.open_inference = OpenInference(unread, scorer=None, seconds=1.0)  # type: ignore[arg-type]
    add_open_inference(app)
    client = TestClient(app, root_path="/predictions")
    for prefix in ("", "/predictions"):
        assert client.get(f"{prefix}/v2/health/live").json() == {"live": True}
        assert client.get(f"{prefix}/v2/health/ready").json() == {"error": "the registry has not been read yet"}
