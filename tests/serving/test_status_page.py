"""The page at `/`, as a person sees it: in headless Chromium, on a real sidecar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from psycopg.types.json import Jsonb

from mage_platform.contracts import Champion, ModelVersion, NewVersion
from mage_platform.database import connect
from mage_platform.settings import Settings
from serving.calls import Call
from serving.status_page.listing import LINES, listing
from serving.status_page.traffic import MOST_VERSIONS, Count, Traffic
from tests.serving.browser import CHROMIUM, Browser, browser
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered
from tests.stores.registry_samples import a_version

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
integration = pytest.mark.integration
REGION = "Hub & <i>Spoke"


@pytest.fixture(scope="module")
def page(
    served: Sidecar, servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A browser before a sidecar that serves three kinds of targets, one of them in a region of an unkind name."""
    for region, model in {REGION: "three_classes", "plain": "gbm", "*": "number"}.items():
        version = registered(servers, trained, "page", region, model)
        promote(servers, "page", region, version)
        served.await_version("page", region, version)
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.resize(1200)
        yield opened


def to_try(region: str, **more: str) -> str:
    return "/?" + urlencode({"use_case": "page", "model": region, **more})


def field(name: str) -> str:
    return f'[name="features.{name}"]'


def fill_in(page: Browser, vector: dict[str, Any]) -> None:
    for name, value in vector.items():
        if isinstance(value, bool):
            page.look(f"document.querySelector('{field(name)}').value = '{str(value).lower()}'")
        else:
            page.type(field(name), "" if value is None else str(value))


@needs_chromium
@integration
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_a_complaint_and_without_a_request_to_anywhere_else(
    page: Browser, served: Sidecar, dark: bool
) -> None:
    page.said.clear()
    page.requested.clear()
    for width in (1200, 390):
        page.resize(width, dark=dark)
        page.open(served.settings.sidecar.url + to_try(REGION))
        assert page.look("document.documentElement.scrollWidth") <= width
        assert page.look("getComputedStyle(document.querySelector('main')).maxWidth") == "1152px", "no style"
    page.resize(1200)
    assert page.said == []
    assert page.requested
    assert {address.split("?")[0] for address in page.requested} == {served.settings.sidecar.url + "/"}


@needs_chromium
@integration
def test_models_stand_with_version_report_and_metric_beside_the_naive_one(page: Browser, served: Sidecar) -> None:
    page.open(served.settings.sidecar.url + "/?q=page+plain")
    [line] = page.look("[...document.querySelectorAll('.models tr:not(.group) th')].slice(-1).map(e => e.innerText)")
    assert line == "plain"
    text = page.text(".models")
    assert "1 gbm" in text
    assert "AUC 0.7000" in text
    assert "0.1000 better than naive 0.6000" in text
    report = page.look("document.querySelector('.models td a').getAttribute('href')")
    assert report == "/v1/models/page/plain/report?version=1"


@needs_chromium
@integration
def test_names_from_the_data_are_text_and_nothing_else(page: Browser, served: Sidecar) -> None:
    page.open(served.settings.sidecar.url + to_try(REGION, q='"><i>page</i>'))
    assert page.look("document.querySelectorAll('i').length") == 0
    assert f"Try page, {REGION}" in page.text("#try")
    assert 'No served model has “"><i>page</i>”' in page.text()


@needs_chromium
@integration
@pytest.mark.parametrize("scripts", [True, False])
def test_a_prediction_tried_by_features_is_h2os_own(
    page: Browser, served: Sidecar, trained: Trained, scripts: bool
) -> None:
    vector, expected = trained.vectors()[0], trained.predictions("three_classes")[0]
    page.open(served.settings.sidecar.url + to_try(REGION))
    fill_in(page, vector)
    page.allow_scripts(scripts)
    page.click("form[method=post] button")
    page.allow_scripts(True)
    assert page.text(".prediction") == expected["prediction"]
    rows = "[...document.querySelectorAll('.bars tr')]"
    shares = page.look(
        f"{rows}.map(e => [e.querySelector('th').innerText, e.querySelector('td:last-child').innerText])"
    )
    assert {name: text.replace("\u202f", "") for name, text in shares} == {
        name: f"{100 * share:.1f}".removesuffix(".0") + "%" for name, share in expected["probabilities"].items()
    }
    # What was typed stands there still, the missing values as empty fields.
    kept = {name: page.look(f"document.querySelector('{field(name)}').value") for name in vector}
    assert kept["month"] == str(vector["month"])
    assert kept["carrier"] == (vector["carrier"] or "")


@needs_chromium
@integration
def test_faults_are_named_beside_their_fields(page: Browser, served: Sidecar) -> None:
    page.open(served.settings.sidecar.url + to_try("plain"))
    fill_in(page, {"month": 13, "distance": "far", "gate": "", "temperature": ""})
    page.click("form[method=post] button")
    faults = page.look(
        "Object.fromEntries([...document.querySelectorAll('[aria-invalid=true]')].map(e => "
        "[e.name, document.getElementById(e.id + '-fault').innerText]))"
    )
    assert faults == {
        "features.month": "must be at most 12",
        "features.distance": "must be a number",
        "features.gate": "must be filled in",
    }
    assert "Not answered" in page.text(".result")
    assert page.look(f"document.querySelector('{field('distance')}').value") == "far"


@needs_chromium
@integration
def test_the_model_of_all_regions_is_tried_for_a_region(page: Browser, served: Sidecar, trained: Trained) -> None:
    page.open(served.settings.sidecar.url + to_try("*"))
    fill_in(page, trained.vectors()[3])
    page.type("[name=region]", "nowhere else")
    page.click("form[method=post] button")
    assert float(page.text(".prediction")) == trained.predictions("number")[3]["prediction"]
    assert "as nowhere else has no model of its own" in page.text(".result")


@needs_chromium
@integration
def test_a_prediction_is_tried_by_entity(page: Browser, served: Sidecar, servers: Settings, trained: Trained) -> None:
    by_entity = "form:has([name=entity_id]) button"
    page.open(served.settings.sidecar.url + to_try("plain"))
    page.type("[name=entity_id]", "flight 7")
    page.click(by_entity)
    assert "must be a UUID" in page.text("#entity-fault")
    page.type("[name=entity_id]", ENTITY)
    page.click(by_entity)
    assert "has no stored feature vector" in page.text("#entity-fault")
    with connect(servers) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, use_case, region, feature_vector) "
            "VALUES (%s, now(), 'page', 'plain', %s)",
            (ENTITY, Jsonb(trained.vectors()[5])),
        )
    page.click(by_entity)
    assert page.text(".prediction") == trained.predictions("gbm")[5]["prediction"]


@needs_chromium
@integration
def test_a_version_that_is_refused_stands_there_with_the_reason(
    page: Browser, served: Sidecar, servers: Settings, trained: Trained
) -> None:
    version = registered(servers, trained, "page", "plain", "gbm_two", "run_2")
    with connect(servers) as connection:
        connection.execute(
            "UPDATE platform.model_versions SET signature = NULL, signed_by = NULL "
            "WHERE use_case = 'page' AND region = 'plain' AND version = %s",
            (version,),
        )
    promote(servers, "page", "plain", version)
    try:
        until = time.monotonic() + 15
        while "page, plain, version 2" not in served.client.get("/").text:
            assert time.monotonic() < until
            time.sleep(0.1)
        page.open(served.settings.sidecar.url + "/")
        told = page.text("ul.faults")
        assert "version 1 answers meanwhile" in told
        assert "is not signed" in told
    finally:
        promote(servers, "page", "plain", 1)
        served.await_version("page", "plain", 1)


@integration
def test_traffic_is_counted_by_version(served: Sidecar, servers: Settings, trained: Trained) -> None:
    promote(servers, "counted", "r", registered(servers, trained, "counted", "r", "glm"))
    served.await_version("counted", "r", 1)
    for _ in range(3):
        assert served.predict("counted", "r", trained.vectors()[0]).status_code == 200
    assert served.predict("counted", "r", {}).status_code == 422
    text = served.client.get("/?q=counted").text
    assert '<td data-label="requests">4 <small class="bad">1 refused</small></td>' in text
    assert '<td data-label="mean time">–' not in text


@integration
def test_no_script_may_run_and_nothing_may_be_fetched(served: Sidecar) -> None:
    form = {"use_case": "page", "model": "plain", "by": "features"}
    for answer in (served.client.get("/"), served.client.post("/", data=form)):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert "<script" not in answer.text


@integration
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"f=" + b"x" * (257 << 10), "application/x-www-form-urlencoded", 413),
        (b"f=1&" * 5_001, "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_of_this_page_is_refused(served: Sidecar, content: bytes, kind: str, status: int) -> None:
    answer = served.client.post("/", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@integration
@pytest.mark.parametrize("query", ["page=0", "page=%C2%B2", "page=99999999999", "use_case=x&model=y", "q=%00%FF"])
def test_an_address_with_odd_values_still_shows_the_page(served: Sidecar, query: str) -> None:
    answer = served.client.get(f"/?{query}")
    assert answer.status_code == 200
    assert ("x, y is not served" in answer.text) == ("model=y" in query)


def models(count: int) -> dict[tuple[str, str], Champion]:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    regions = [f"airport {number:04}" for number in range(count)]
    return {("rides", region): Champion(model=version_of(region), since=moment) for region in regions}


def version_of(region: str) -> ModelVersion:
    new = {name: getattr(a_version(), name) for name in NewVersion.model_fields}
    new |= {"use_case": "rides", "region": region, "algorithm": "gbm"}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return ModelVersion(**new, version=1, mojo_sha256="0" * 64, genmodel_sha256="0" * 64, registered_at=moment)


def test_a_thousand_models_come_in_pages_and_are_searched() -> None:
    served, traffic = models(1_000), Traffic()
    first, last = listing(served, traffic, "", 1), listing(served, traffic, "", 99)
    assert (first.found, first.pages, len(first.lines)) == (1_000, 1_000 // LINES, LINES)
    assert (last.page, last.lines[-1].version.region) == (1_000 // LINES, "airport 0999")
    found = listing(served, traffic, "GBM t 099", 1)
    assert [line.version.region for line in found.lines] == [
        "airport 0099",
        *(f"airport 099{digit}" for digit in range(10)),
    ]
    assert found.address(2) == "/?q=GBM+t+099&page=2"


def test_the_counts_of_old_versions_give_way() -> None:
    traffic = Traffic()
    version = version_of("r")
    traffic.counts = {("rides", "r", -number): Count() for number in range(MOST_VERSIONS)}
    call = Call("/v1/predict")
    call.model, call.status, call.cached = SimpleNamespace(version=version), 200, True  # type: ignore[assignment]
    traffic.answered(call)
    assert len(traffic.counts) == MOST_VERSIONS
    assert ("rides", "r", 0) not in traffic.counts
    counted = traffic.counts["rides", "r", version.version]
    assert replace(counted, seconds=0.0) == Count(requests=1, predictions=1, asked=1, cached=1)
