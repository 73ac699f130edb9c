"""Traces, as a collector receives them; and that nothing is loaded for them where none are asked for."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import PROJECT, Settings
from tests.serving.sidecar_process import INTERPRETER, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

pytestmark = pytest.mark.integration
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DECODE = """
import json, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
for line in sys.stdin:
    request = ExportTraceServiceRequest.FromString(bytes.fromhex(line))
    for resource in request.resource_spans:
        told = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                print(json.dumps({
                    "name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(), "kind": span.kind, "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano, "error": span.status.code == 2, "service": told["service.name"],
                    "attributes": {each["key"]: next(iter(each["value"].values()))
                                   for each in MessageToDict(span).get("attributes", [])},
                }))
"""


class Collector(ThreadingHTTPServer):
    """Receives OTLP over HTTP and keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[dict[str, Any]]:
        """Everything received, as the library's own protobuf classes read it."""
        text = "".join(body.hex() + "\n" for _, body in self.bodies)
        done = subprocess.run([INTERPRETER, "-c", DECODE], input=text, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def traced(servers: Settings, trained: Trained) -> Settings:
    promote(servers, "traced", "north", registered(servers, trained, "traced", "north", "gbm"))
    return with_ports(servers, sidecar=free_port())


def test_a_request_is_a_span_under_its_callers_with_one_for_each_stage(
    traced: Settings, trained: Trained, collector: Collector, tmp_path: Path
) -> None:
    body = {"use_case": "traced", "region": "north", "entity_id": "7cf06540-e6e0-54cb-8483-c525c4b50d97"}
    before = time.time_ns()
    with sidecar(traced, tmp_path, SIDECAR__TRACES_URL=f"{collector.url}/v1/traces") as served:
        served.await_version("traced", "north", 1)
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "followed"}
        good = served.client.post("/v1/predict", json={**body, "features": trained.vectors()[0]}, headers=headers)
        assert good.status_code == 200
        assert served.client.post("/v1/predict", json={**body, "features": {}}).status_code == 422
        unsampled = {"traceparent": f"00-{'1' * 32}-{PARENT}-00"}
        assert served.client.post("/v1/predict", json=body, headers=unsampled).status_code == 404
        served.process.terminate()  # what waits is sent
        assert served.process.wait(timeout=15) == 0
    assert {path for path, _ in collector.bodies} == {"/v1/traces"}
    spans = collector.spans()
    mine = [span for span in spans if span["trace"] == TRACE]
    assert {span["service"] for span in spans} == {"sidecar"}
    (server,) = [span for span in mine if span["parent"] == PARENT]
    assert (server["name"], server["kind"], server["error"]) == ("/v1/predict", 2, False)
    told = {"http.response.status_code": "200", "request.id": "followed", "model.use_case": "traced"}
    told |= {"model.region": "north", "model.version": "1", "model.variant": "champion"}
    assert {name: server["attributes"][name] for name in told} == told
    assert not [name for span in spans for name in span["attributes"] if "key" in name or name.startswith("feature")]
    children = sorted((span for span in mine if span["parent"] == server["id"]), key=lambda span: int(span["start"]))
    assert [span["name"] for span in children] == ["parse", "encode", "score", "write"]
    assert len(mine) == 5
    for earlier, later in pairwise(children):
        assert earlier["end"] == later["start"]
    assert before <= server["start"] == children[0]["start"] < children[-1]["end"] == server["end"] <= time.time_ns()

    refused = [span for span in spans if span["attributes"].get("error.type") == "features-invalid"]
    assert len(refused) == 1
    assert [span["name"] for span in spans if span["parent"] == refused[0]["id"]] == ["parse"]
    assert "1" * 32 not in {span["trace"] for span in spans}, "the caller said not to sample it"


def test_the_standard_variables_say_where_to(
    traced: Settings, trained: Trained, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "predictions-of-ours")
    with sidecar(traced, tmp_path) as served:
        assert served.client.get("/v1/models").status_code == 200
        served.process.terminate()
        assert served.process.wait(timeout=15) == 0
    assert {span["service"] for span in collector.spans()} == {"predictions-of-ours"}
    assert "/v1/models" in {span["name"] for span in collector.spans()}


def test_a_collector_that_is_gone_fails_no_request(traced: Settings, trained: Trained, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/traces"
    with sidecar(traced, tmp_path, SIDECAR__TRACES_URL=url) as served:
        served.await_version("traced", "north", 1)
        for vector in trained.vectors()[:20]:
            assert served.predict("traced", "north", vector).status_code == 200
        served.process.terminate()
        assert served.process.wait(timeout=20) == 0


def test_where_no_traces_are_asked_for_nothing_that_makes_or_sends_them_is_imported() -> None:
    code = (
        "import sys; from mage_platform.sidecar_settings import SidecarSettings; import serving.app;"
        "from serving.tracing import Tracing; print(Tracing.of(SidecarSettings()));"
        "unwanted = ('opentelemetry.sdk.trace', 'opentelemetry.exporter');"
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    done = subprocess.run([INTERPRETER, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None", "[]"]
