"""One line of the log for each request: what stands in it, what never does, and what is left out of many."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from mage_platform.sidecar_settings import SidecarSettings
from serving import request_log
from serving.calls import Call
from serving.request_log import MOST_WAITING, RequestLog
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports


@pytest.fixture(scope="module")
def logging(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    promote(servers, "lines", "north", registered(servers, trained, "lines", "north", "gbm"))
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(settings, tmp_path_factory.mktemp("lines"), SIDECAR__PREDICTION_CACHE="off") as started:
        started.await_version("lines", "north", 1)
        yield started


def lines(logging: Sidecar, *ids: str, seconds: float = 5) -> list[dict[str, Any]]:
    """The lines of some requests, in their order, as soon as all are there."""
    until = time.monotonic() + seconds
    while True:
        found = {line["request_id"]: line for line in logging.logged("request answered")}
        if all(each in found for each in ids):
            return [found[each] for each in ids]
        assert time.monotonic() < until, found
        time.sleep(0.05)


def ask(logging: Sidecar, request_id: str, body: Any, **headers: str) -> int:
    headers |= {"x-request-id": request_id, "content-type": "application/json"}
    return logging.client.post("/v1/predict", content=json.dumps(body), headers=headers).status_code


@pytest.mark.integration
def test_a_line_says_who_asked_what_of_which_model_and_how_it_went(logging: Sidecar, trained: Trained) -> None:
    vector = trained.vectors()[0]
    body = {"use_case": "lines", "region": "north", "entity_id": "7cf06540-e6e0-54cb-8483-c525c4b50d97"}
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    before = datetime.now(UTC)
    answer = logging.client.post(
        "/v1/predict", json={**body, "features": vector}, headers={"x-request-id": "good", "traceparent": parent}
    )
    assert ask(logging, "bad", {**body, "features": {**vector, "month": 13}}) == 422
    assert logging.client.get("/v1/models", headers={"x-request-id": "look"}).status_code == 200

    good, bad, look = lines(logging, "good", "bad", "look")
    told = {"route": "/v1/predict", "status": 200, "use_case": "lines", "region": "north", "model_region": "north"}
    told |= {"version": 1, "variant": "champion", "rows": 1, "cached": False, "fallback": False, "caller": None}
    told |= {"problem": None, "level": "info", "traceparent": parent, "bytes_out": len(answer.content)}
    assert {name: good[name] for name in told} == told
    assert good["bytes_in"] == len(answer.request.content)
    parts = [good[f"{stage}_milliseconds"] for stage in ("parse", "encode", "score", "write")]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(good["total_milliseconds"], abs=0.005)
    moment = datetime.fromisoformat(good["timestamp"])
    assert before - timedelta(seconds=1) < moment < datetime.now(UTC) + timedelta(seconds=1)

    assert (bad["status"], bad["problem"], bad["version"]) == (422, "features-invalid", 1)
    assert (bad["score_milliseconds"], bad["write_milliseconds"]) == (None, None), "not reached"
    assert (look["route"], look["rows"], look["version"]) == ("/v1/models", 0, None)


@pytest.mark.integration
def test_no_feature_and_no_key_stands_in_the_log(logging: Sidecar, trained: Trained) -> None:
    vector = {**trained.vectors()[0], "carrier": "secret-carrier", "distance": 1357.9}
    body = {"use_case": "lines", "region": "north", "entity_id": "0e6dd3ad-0b5b-4f0c-8a43-92ac9c63ac5c"}
    assert ask(logging, "mine", {**body, "features": vector}, authorization="Bearer secret-key") == 200
    assert ask(logging, "wrong", {**body, "features": {"secret-name": "secret-value"}}) == 422
    lines(logging, "mine", "wrong")
    text = logging.log.read_text()
    assert "secret-" not in text
    assert "1357.9" not in text


@pytest.mark.integration
def test_probes_get_no_line(logging: Sidecar) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert logging.client.get(path, headers={"x-request-id": "probe"}).status_code == 200
    assert logging.client.get("/v1/models", headers={"x-request-id": "after"}).status_code == 200
    lines(logging, "after")
    assert "probe" not in {line["request_id"] for line in logging.logged("request answered")}


@pytest.mark.integration
def test_when_the_log_is_off_or_notable_ordinary_requests_get_no_line(
    servers: Settings, trained: Trained, logging: Sidecar, tmp_path: Any
) -> None:
    body = {"use_case": "lines", "region": "north", "entity_id": "7cf06540-e6e0-54cb-8483-c525c4b50d97"}
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(settings, tmp_path, SIDECAR__REQUEST_LOG="notable") as quiet:
        assert ask(quiet, "good", {**body, "features": trained.vectors()[0]}) == 200
        assert ask(quiet, "bad", body | {"region": "none"}) == 404
        lines(quiet, "bad")
        of_predictions = [line for line in quiet.logged("request answered") if line["route"] == "/v1/predict"]
        assert [line["request_id"] for line in of_predictions] == ["bad"]


def call(status: int = 200, *, route: str = "/v1/predict", seconds: float = 0.0) -> Call:
    made = Call(route)
    made.status = status
    made.began -= seconds
    return made


def written(settings: SidecarSettings, calls: list[Call]) -> tuple[RequestLog, list[dict[str, Any]]]:
    texts: list[list[bytes]] = []
    log = RequestLog(settings, texts.append)
    now = time.perf_counter()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(request_log, "_clock", lambda: now)  # all within one second
        for each in calls:
            log.answered(each)
    log.start()
    log.close()
    return log, [json.loads(line) for lines in texts for line in lines]


def test_beyond_so_many_a_second_lines_are_left_out_and_counted_notable_ones_apart() -> None:
    settings = SidecarSettings(request_log_lines_a_second=10)
    log, found = written(settings, [call() for _ in range(25)] + [call(503) for _ in range(4)])
    assert [line["status"] for line in found] == [200] * 10 + [503] * 4
    assert (log.written, log.left_out, log.dropped) == (14, 15, 0)


def test_without_a_limit_every_request_has_its_line() -> None:
    log, found = written(SidecarSettings(request_log_lines_a_second=0), [call() for _ in range(500)])
    assert (len(found), log.left_out) == (500, 0)


def test_slow_and_failed_requests_are_notable() -> None:
    settings = SidecarSettings(request_log="notable", request_log_slow_milliseconds=100)
    calls = [call(), call(seconds=0.2), call(422), call(503, route="/health/ready")]
    _, found = written(settings, calls)
    assert [(line["status"], line["level"]) for line in found] == [(200, "info"), (422, "info"), (503, "warning")]
    assert found[0]["total_milliseconds"] > 200


def test_a_log_that_is_off_writes_nothing() -> None:
    assert written(SidecarSettings(request_log="off"), [call(500)])[1] == []


def test_a_reader_that_does_not_read_holds_up_no_request() -> None:
    blocked = threading.Event()
    log = RequestLog(SidecarSettings(request_log_lines_a_second=0), lambda _: blocked.wait(30))
    log.start()
    for _ in range(MOST_WAITING + 500):
        log.answered(call())
    assert log.dropped >= 500 - 64, "but for those in the writer's hand"
    blocked.set()
    log.close()
    assert log.written + log.dropped == MOST_WAITING + 500


def test_a_log_that_cannot_be_written_is_counted() -> None:
    def fail(_: list[bytes]) -> None:
        raise BrokenPipeError

    log = RequestLog(SidecarSettings(), fail)
    log.answered(call())
    log.start()
    log.close()
    assert (log.written, log.dropped) == (0, 1)
