"""The whole path on a few hundred rows, with every real part: Mage's scheduler, great-expectations, PostgreSQL
(through PgBouncer where it is installed), Valkey, H2O AutoML, MOJOs, and the sidecar's own JVM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mage_platform.contracts import POOLED, NewVersion, entity_id_of
from mage_platform.database import connect
from mage_platform.local.embedded import running
from mage_platform.local.surroundings import block_environment
from mage_platform.registry import (
    champions,
    fetch_model,
    model_version,
    model_versions,
    register,
    signing_key,
    verification_keys,
)
from mage_platform.settings import PROJECT, Settings, load_settings
from tests import demo_use_case as demo
from tests.h2o_requests import h2o_json
from tests.stores.registry_samples import a_lineage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("path")
    demo.write_use_case(folder / "use_cases")
    asked = load_settings(
        state_folder=folder / "state",
        use_cases_folder=folder / "use_cases",
        h2o={"memory_limit_gib": 2, "threads": 2},
        training={"parallel_regions": 3},
    )
    with running(asked, ("postgres", "pgbouncer", "valkey", "h2o", "sidecar"), migrate=True) as started:
        yield started


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a person would use it against the running stack."""
    environment = {**os.environ, **block_environment(settings)}
    return subprocess.run(
        [sys.executable, "-m", "mage_platform", *arguments],
        env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ingested(settings: Settings) -> dict[str, Any]:
    """The first ingest, with three dirty rows among the 1,200."""
    rows = demo.ride_rows()
    rows.loc[[10, 500], "carrier"] = None
    rows.loc[900, "rain_millimetres"] = -1
    demo.write_use_case(settings.use_cases_folder, rows)
    done = command(settings, "run", "ingest_features", "--use-case", demo.NAME, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def trained(settings: Settings, ingested: dict[str, Any]) -> dict[str, Any]:
    done = command(settings, "run", "train_regional_models", "--use-case", demo.NAME, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_row_is_stored_or_in_quarantine(settings: Settings, ingested: dict[str, Any]) -> None:
    assert [block["block"] for block in ingested["blocks"]] == [
        "load_source_rows", "validate_rows", "build_features", "export_features", "describe_features",
    ]  # fmt: skip
    with connect(settings) as connection:
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (1197,)
        assert connection.execute("SELECT count(*) FROM platform.quarantine").fetchone() == (3,)
    listed = json.loads(command(settings, "quarantine", "list", "--use-case", demo.NAME, "--json").stdout)
    assert listed["count"] == 3
    assert {reason["column"] for row in listed["rows"] for reason in row["reasons"]} == {"carrier", "rain_millimetres"}


def test_an_ingest_leaves_the_statistics_of_its_window(settings: Settings, ingested: dict[str, Any]) -> None:
    described = json.loads(command(settings, "features", "describe", demo.NAME, "--stored", "--json").stdout)
    assert {each["feature"]: each["statistics"]["count"] for each in described} == dict.fromkeys(
        ("hour", "carrier", "rain_millimetres", "is_weekend"), 1197
    )
    with connect(settings) as connection:
        counted = connection.execute(
            "SELECT region, vectors, labels FROM platform.described_windows ORDER BY region NULLS FIRST"
        ).fetchall()
    refused = {"Bern": 1, "Genève": 1, "Zürich": 1}  # rows 10, 500 and 900 of 400 a city
    each_city = [(city, 400 - refused[city], 400 - refused[city]) for city in sorted(demo.CITIES)]
    assert counted == [(None, 1197, 1197), *each_city]


def test_the_fan_out_trains_small_regions_in_children_side_by_side(trained: dict[str, Any]) -> None:
    """Three children are allowed at a time, and four small models are planned: two of them share a child."""
    children = {block["child"] for block in trained["blocks"] if block["block"] == "train_region" and block["child"]}
    assert {child.casefold() for child in children} == {"train_*_and_1_more", "train_bern", "train_genève"}


def test_each_region_has_a_champion_that_beats_the_naive_baseline(settings: Settings, trained: dict[str, Any]) -> None:
    with connect(settings) as connection:
        serving = champions(connection)
    assert [each.model.region for each in serving] == [POOLED, *demo.CITIES]
    for each in serving:
        assert each.model.metrics.auc > each.model.naive_metrics.auc
        assert each.model.rows["test"] == each.model.metrics.rows
        assert each.model.h2o_version == "3.46.0.11"


def test_nothing_of_the_training_stays_on_the_h2o_server(settings: Settings, trained: dict[str, Any]) -> None:
    frames = h2o_json(settings, "/3/Frames")["frames"]
    models = h2o_json(settings, "/3/Models")["models"]
    assert (frames, models) == ([], [])


def served(settings: Settings, region: str) -> dict[str, Any]:
    """What the sidecar says of a region, once it serves one."""
    deadline = time.monotonic() + 60
    while True:
        response = httpx.get(f"{settings.sidecar.url}/v1/models/{demo.NAME}/{region}", timeout=5)
        if response.is_success or time.monotonic() > deadline:
            answer: dict[str, Any] = response.json()
            return answer
        time.sleep(0.2)


def test_the_sidecar_answers_by_entity_and_by_features_alike(settings: Settings, trained: dict[str, Any]) -> None:
    assert served(settings, "Bern")["model"]["version"] == 1
    entity = str(entity_id_of(demo.NAME, ["Bern-3"]))
    request: dict[str, Any] = {"use_case": demo.NAME, "region": "Bern", "entity_id": entity}
    stored = json.loads(command(settings, "features", "get", entity, "--json").stdout)
    by_entity = httpx.post(f"{settings.sidecar.url}/v1/predict", json=request).json()
    request["features"] = stored["vector"]["features"]
    by_features = httpx.post(f"{settings.sidecar.url}/v1/predict", json=request).json()
    assert by_entity["probabilities"] == by_features["probabilities"]
    assert sum(by_entity["probabilities"].values()) == pytest.approx(1)
    printed = json.loads(command(settings, "predict", demo.NAME, "Bern", entity, "--json").stdout)
    assert printed["probabilities"] == by_entity["probabilities"]


def test_a_failed_region_fails_the_run_by_name_and_the_others_are_registered(
    settings: Settings, trained: dict[str, Any]
) -> None:
    done = command(
        settings, "run", "train_regional_models", "--use-case", demo.NAME, "--set", "regions=Bern,Zürich,Atlantis"
    )
    assert done.returncode == 1
    assert "1 of 3 regions failed" in done.stderr
    assert "Atlantis: only 0 labelled rows to train on" in done.stderr
    with connect(settings) as connection:
        versions = {(each.region, each.version) for each in model_versions(connection)}
        serving = {each.model.region: each.model.version for each in champions(connection)}
    assert "Nothing changed for: Bern (version 1), Zürich (version 1)" in done.stderr
    # the same rows, options and seed are the same training, which is registered once
    assert versions == {(region, 1) for region in (POOLED, *demo.CITIES)}
    assert serving == dict.fromkeys((POOLED, *demo.CITIES), 1)


def test_a_region_without_a_model_is_answered_by_the_pooled_one(settings: Settings, trained: dict[str, Any]) -> None:
    entity = str(entity_id_of(demo.NAME, ["Bern-3"]))
    stored = json.loads(command(settings, "features", "get", entity, "--json").stdout)
    request = {
        "use_case": demo.NAME, "region": "Atlantis", "entity_id": entity, "features": stored["vector"]["features"]
    }  # fmt: skip
    assert served(settings, POOLED)["model"]["version"] == 1
    answer = httpx.post(f"{settings.sidecar.url}/v1/predict", json=request).json()
    assert (answer["model"]["region"], answer["fallback"]) == (POOLED, True)


def test_a_version_shows_its_decision_lineage_and_validation(settings: Settings, trained: dict[str, Any]) -> None:
    shown = json.loads(command(settings, "models", "show", demo.NAME, "Bern", "--json").stdout)
    assert shown["decision"]["promoted"] is True
    assert [clause["clause"] for clause in shown["decision"]["clauses"]] == ["beats_naive"]
    assert shown["decision"]["evaluation"]["pooled"]["metrics"]["rows"] == shown["model"]["metrics"]["rows"]
    assert (shown["validation"]["rows"], shown["validation"]["quarantined"]) == (1200, 3)
    lineage = shown["model"]["lineage"]
    assert (
        lineage["code_commit"] == subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=PROJECT, text=True).strip()
    )
    printed = command(settings, "models", "show", demo.NAME, "Bern").stdout
    for part in (
        "decision: promoted",
        "naive baseline",
        "pooled model",
        "1,197 of 1,200 rows passed",
        lineage["rows_fingerprint"],
    ):
        assert part in printed


def test_a_promotion_by_hand_is_served_and_a_rollback_gives_it_back(
    settings: Settings, trained: dict[str, Any], tmp_path: Path
) -> None:
    with connect(settings) as connection:
        first = model_version(connection, demo.NAME, "Bern", 1)
        mojo, genmodel = fetch_model(connection, first, tmp_path, verification_keys(settings))
        fields = {name: getattr(first, name) for name in NewVersion.model_fields}
        again = NewVersion(**{**fields, "run": "another", "seed": 8, "lineage": a_lineage("another")})
        assert register(connection, again, mojo=mojo, genmodel=genmodel, signing_key=signing_key(settings)).version == 2
    told = json.loads(command(settings, "models", "diff", demo.NAME, "Bern", "1", "2", "--json").stdout)
    assert {"what": "seed", "1": 7, "2": 8} in told
    assert command(settings, "models", "promote", demo.NAME, "Bern", "2", "--reason", "a test").returncode == 0
    deadline = time.monotonic() + 30
    while served(settings, "Bern")["model"]["version"] != 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    done = command(settings, "models", "rollback", demo.NAME, "Bern", "--reason", "a test", "--json")
    assert json.loads(done.stdout)["to_version"] == 1
    shown = json.loads(command(settings, "models", "show", demo.NAME, "Bern", "--json").stdout)
    assert [move["to_version"] for move in shown["alias_history"]] == [1, 2, 1]


def test_no_region_at_all_is_an_error_before_the_fan_out(settings: Settings, ingested: dict[str, Any]) -> None:
    declaration = demo.DECLARATION.replace("name: rides", "name: empty")
    place = demo.write_use_case(settings.use_cases_folder / "staging", declaration=declaration)
    place.rename(settings.use_cases_folder / "empty")
    began = time.monotonic()
    done = command(settings, "run", "train_regional_models", "--use-case", "empty")
    assert done.returncode == 1
    assert "no region of empty has a label known" in done.stderr
    assert time.monotonic() - began < 110, "Mage waited for the items of an empty generator"


def test_wrong_input_to_the_command_line_is_named(settings: Settings) -> None:
    unknown = command(settings, "run", "ingest_features", "--set", "regoin=Bern")
    assert (unknown.returncode, "no pipeline variable 'regoin'" in unknown.stderr) == (2, True)
    nobody = command(settings, "run", "ingest_features", "--use-case", "nobody")
    assert (nobody.returncode, "there is no use case 'nobody'" in nobody.stderr) == (3, True)
    nothing = command(settings, "run", "nothing", "--use-case", demo.NAME)
    assert (nothing.returncode, "nothing" in nothing.stderr) == (3, True)


def test_every_command_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mage_platform", "--help"], capture_output=True, text=True, cwd=PROJECT
    )
    for name in ("up", "status", "run", "predict", "models", "features", "quarantine", "use-case", "doctor"):
        assert name in done.stdout
