"""What the sidecar says of itself at /metrics, held against requests that were really sent to it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from mage_platform.local.ports import free_port
from mage_platform.settings import PROJECT, Settings
from serving.calls import Call
from serving.histogram import Histogram
from serving.metrics import MOST_MODELS, OTHER, RequestMetrics
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DASHBOARD = json.loads((PROJECT / "k8s/components/grafana-dashboard/sidecar.json").read_text(encoding="utf-8"))
Values = dict[str, dict[tuple[tuple[str, str], ...], float]]


def values(text: str) -> Values:
    """Every sample of a scrape, by its name and its labels."""
    found: Values = {}
    for family in plain_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**named: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(named.items()))


@pytest.fixture(scope="module")
def watched(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for region, model in {"north": "gbm", "south": "glm"}.items():
        promote(servers, "seen", region, registered(servers, trained, "seen", region, model))
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(settings, tmp_path_factory.mktemp("watched"), SIDECAR__PREDICTION_CACHE="off") as started:
        started.await_version("seen", "south", 1)
        yield started


@pytest.fixture(scope="module")
def scrapes(watched: Sidecar, trained: Trained) -> tuple[Values, Values]:
    """Before and after thirteen requests."""
    before = values(watched.client.get("/metrics").text)
    for vector in trained.vectors()[:7]:
        assert watched.predict("seen", "north", vector).status_code == 200
    for vector in trained.vectors()[:2]:
        assert watched.predict("seen", "south", vector).status_code == 200
    assert watched.predict("seen", "north", {"month": 13}).status_code == 422
    assert watched.predict("seen", "west", trained.vectors()[0]).status_code == 404
    assert watched.client.post("/v1/predict", content=b"{").status_code == 400
    assert watched.client.get("/no/such/address").status_code == 404
    return before, values(watched.client.get("/metrics").text)


def grown(scrapes: tuple[Values, Values], name: str, **named: str) -> float:
    before, after = scrapes
    return after[name][labels(**named)] - before.get(name, {}).get(labels(**named), 0.0)


@pytest.mark.integration
def test_the_counts_are_those_of_the_requests_sent(scrapes: tuple[Values, Values]) -> None:
    for status, problem, times in (
        ("200", "", 9),
        ("422", "features-invalid", 1),
        ("404", "model-not-found", 1),
        ("400", "body-malformed", 1),
    ):
        counted = grown(scrapes, "sidecar_requests_total", route="/v1/predict", status=status, problem=problem)
        assert counted == times, (status, problem)
    assert grown(scrapes, "sidecar_requests_total", route="unknown", status="404", problem="") == 1
    north = {"use_case": "seen", "region": "north", "version": "1", "variant": "champion"}
    assert grown(scrapes, "sidecar_predictions_total", **north) == 7
    assert grown(scrapes, "sidecar_predictions_total", **{**north, "region": "south"}) == 2
    assert grown(scrapes, "sidecar_failed_predictions_total", **north) == 0
    assert grown(scrapes, "sidecar_request_seconds_count", route="/v1/predict") == 12
    stages = {"parse": 11, "encode": 9, "score": 9, "write": 9}  # those whose end was reached
    for stage, times in stages.items():
        assert grown(scrapes, "sidecar_stage_seconds_count", route="/v1/predict", stage=stage) == times, stage
    assert grown(scrapes, "sidecar_hop_rows_sum") == 9
    assert grown(scrapes, "sidecar_hop_rows_count") == 9, "one after the other, each goes alone"


@pytest.mark.integration
def test_the_stages_add_up_to_the_whole(scrapes: tuple[Values, Values]) -> None:
    parts = sum(
        grown(scrapes, "sidecar_stage_seconds_sum", route="/v1/predict", stage=stage)
        for stage in ("parse", "encode", "score", "write")
    )
    assert 0 < parts <= grown(scrapes, "sidecar_request_seconds_sum", route="/v1/predict")


@pytest.mark.integration
def test_buckets_only_grow_up_to_the_count(scrapes: tuple[Values, Values]) -> None:
    by_series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for key, value in scrapes[1]["sidecar_stage_seconds_bucket"].items():
        named = dict(key)
        bound = float(named.pop("le"))
        by_series.setdefault(labels(**named), []).append((bound, value))
    assert len(by_series) >= 4
    for series, buckets in by_series.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts)
        assert counts[-1] == scrapes[1]["sidecar_stage_seconds_count"][series]


@pytest.mark.integration
def test_models_registry_and_process_are_told(watched: Sidecar, scrapes: tuple[Values, Values]) -> None:
    _, after = scrapes
    model = labels(use_case="seen", region="north", version="1", algorithm="gbm")
    assert after["sidecar_model_loaded"][model] == 1
    assert 1 <= after["sidecar_models"][()] <= len(watched.client.get("/v1/models").json()["models"])
    assert after["sidecar_models_not_loaded"][()] == 0
    assert after["sidecar_registry_reachable"][()] == 1
    assert after["sidecar_waiting_scores"][()] == 0
    assert 0 < after["sidecar_java_heap_used_bytes"][()] < after["sidecar_java_heap_maximum_bytes"][()]
    assert after["process_resident_memory_bytes"][()] > 10_000_000


@pytest.mark.integration
def test_the_cache_is_counted(servers: Settings, trained: Trained, watched: Sidecar, tmp_path: Path) -> None:
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(settings, tmp_path, SIDECAR__PREDICTION_CACHE="always") as cached:
        vector = {**trained.vectors()[0], "distance": 1234.5}
        hits = asked = 0
        until = time.monotonic() + 15
        while hits < 3:  # a late answer of Redis leaves it out for a moment, which on a busy machine may be the first
            assert time.monotonic() < until, "never answered from the cache"
            hits += cached.predict("seen", "north", vector).json()["cached"]
            asked += 1
            time.sleep(0.02)
        seen = values(cached.client.get("/metrics").text)
    counted = seen["sidecar_cache_keys_total"]
    hit, miss, late = (counted[labels(cache="predictions", outcome=each)] for each in ("hit", "miss", "late"))
    assert hit == hits
    assert hit <= seen["sidecar_cache_read_seconds_count"][labels(cache="predictions")] <= hit + miss + late <= asked
    north = labels(use_case="seen", region="north", version="1", variant="champion")
    assert seen["sidecar_cached_predictions_total"][north] == hits
    outcomes = {
        outcome: seen["sidecar_model_cache_total"][
            labels(use_case="seen", region="north", version="1", outcome=outcome)
        ]
        for outcome in ("hit", "miss", "joined", "silent", "left_out")
    }
    assert outcomes["hit"] == hits
    assert sum(outcomes.values()) == asked


@pytest.mark.integration
def test_a_scraper_gets_the_format_it_asks_for(watched: Sidecar) -> None:
    new = watched.client.get("/metrics", headers={"accept": OPENMETRICS})
    assert new.headers["content-type"].startswith("application/openmetrics-text")
    assert new.text.endswith("# EOF\n")
    names = {family.name for family in openmetrics(new.text)}
    old = watched.client.get("/metrics")
    assert old.headers["content-type"].startswith("text/plain")
    assert {"sidecar_requests", "sidecar_request_seconds", "sidecar_models"} <= names
    assert {family.name.removesuffix("_total") for family in plain_text(old.text)} >= names - {"sidecar_build"}


@pytest.mark.integration
def test_every_family_is_described_in_the_scrape_and_in_the_documents(watched: Sidecar, scrapes: object) -> None:
    families = list(openmetrics(watched.client.get("/metrics", headers={"accept": OPENMETRICS}).text))
    assert not [family.name for family in families if not family.documentation]
    document = (PROJECT / "docs/observability.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(sidecar_[a-z_]+)`", document))
    suffix = {"counter": "_total", "info": "_info"}
    own = [family for family in families if family.name.startswith("sidecar_")]
    assert told == {family.name + suffix.get(family.type, "") for family in own}


def queries() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return panels + [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]


@pytest.mark.integration
def test_the_dashboard_asks_for_nothing_that_is_not_there(watched: Sidecar, scrapes: tuple[Values, Values]) -> None:
    _, after = scrapes
    assert len(queries()) > 25
    for query in queries():
        named = re.findall(r"\b((?:sidecar|process|python)_[a-z_]+)", query)
        assert named, query
        for name in named:
            assert name in after, query
            known = {label for key in after[name] for label, _ in key} | {"instance"}
            for matchers in re.findall(name + r"\{([^}]*)\}", query):
                assert set(re.findall(r"(\w+)=", matchers)) <= known, query
            for by in re.findall(r"by \(([^)]*)\)", query):
                assert set(by.split(", ")) <= known, query


@pytest.mark.integration
def test_everything_the_sidecar_counts_is_on_the_dashboard(scrapes: tuple[Values, Values]) -> None:
    asked = " ".join(queries())
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in scrapes[1] if name.startswith("sidecar_")}
    assert not [family for family in families if family not in asked]


def test_more_models_than_may_have_labels_share_one_set_of_counters() -> None:
    counted = RequestMetrics()
    for number in range(MOST_MODELS + 50):
        counted.tally("many", f"r{number}", "1", "champion").answered += 1
    for number in range(MOST_MODELS + 50):
        counted.tally("many", f"r{number}", "1", "champion").answered += 1
    assert len(counted.models) == MOST_MODELS + 1
    assert counted.models[OTHER].answered == 100
    assert counted.models["many", "r0", "1", "champion"].answered == 2


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram((0.1, 0.2))
    for value in (0.1, 0.15, 0.2, 0.3):
        histogram.observe(value)
    assert histogram.counts == [1, 2, 1]


@pytest.mark.integration
def test_an_address_nobody_serves_gets_no_label_of_its_own(watched: Sidecar) -> None:
    httpx.get(f"{watched.settings.sidecar.url}/made/up/{ENTITY}")
    assert ENTITY not in watched.client.get("/metrics").text


def test_a_request_that_no_model_answered_is_counted_without_one() -> None:
    counted = RequestMetrics()
    call = Call("/v1/predict")
    call.status, call.problem = 503, "unavailable"
    counted.answered(call)
    assert counted.requests == {("/v1/predict", 503, "unavailable"): 1}
    assert not counted.models
