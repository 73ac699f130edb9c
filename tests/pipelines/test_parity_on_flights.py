"""What the sidecar answers equals H2O's own prediction to the last bit, on a thousand real flights and for every
kind of model that AutoML builds."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h2o
import httpx
import numpy as np
import pyarrow as pa
import pytest

from mage_platform.contracts import NewVersion, RegionPlan, TrainingWindow, UseCase
from mage_platform.database import connect
from mage_platform.features.training_set import KEYS, training_set
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.local.embedded import running
from mage_platform.registry import move_alias, register, signing_key
from mage_platform.settings import PROJECT, Settings, load_settings
from mage_platform.sources import load_rows
from mage_platform.training.h2o_server import H2O_VERSION, Branch, h2o_server
from mage_platform.training.held_out import truth_of
from mage_platform.training.metrics import Scored, metrics_of
from mage_platform.use_cases import load_use_case
from tests.stores.registry_samples import a_lineage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

REGION, ROWS = "JFK", 1000
WINDOW = TrainingWindow(
    train_until=datetime(2013, 1, 15, tzinfo=UTC),
    validate_until=datetime(2013, 1, 18, tzinfo=UTC),
    blend_until=datetime(2013, 1, 21, tzinfo=UTC),
    test_until=datetime(2013, 1, 27, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("parity")
    asked = load_settings(state_folder=folder, h2o={"memory_limit_gib": 2, "threads": 2})
    with running(asked, ("postgres", "valkey", "h2o", "sidecar"), migrate=True) as started:
        yield started


@pytest.fixture(scope="module")
def use_case(settings: Settings) -> UseCase:
    declared = load_use_case(settings.model_copy(update={"use_cases_folder": PROJECT / "use_cases"}), "flight_delays")
    training = declared.training.model_copy(
        update={**dict(WINDOW), "maximum_models": 4, "exclude_algorithms": None, "include_algorithms": ALGORITHMS}
    )
    return declared.model_copy(update={"training": training})


ALGORITHMS = ["GLM", "GBM", "DRF", "XGBoost", "StackedEnsemble"]


@pytest.fixture(scope="module")
def table(settings: Settings, use_case: UseCase) -> dict[str, pa.Table]:
    reading = settings.model_copy(update={"use_cases_folder": PROJECT / "use_cases"})
    rows = load_rows(reading, use_case, end=WINDOW.test_until)
    passed = rows[rows["wind_speed_mph"].isna() | (rows["wind_speed_mph"] < 200)]
    store_vectors(settings, use_case, build_vectors(reading, use_case, passed))
    return training_set(settings, use_case, REGION, use_case.input_schema, WINDOW)


def test_every_model_answers_what_h2o_predicts(
    settings: Settings, use_case: UseCase, table: dict[str, pa.Table], tmp_path: Path
) -> None:
    plan = RegionPlan(
        use_case=use_case.name, region=REGION, run="parity", window=WINDOW, seed=1, maximum_models=5,
        maximum_runtime_seconds=400, labelled_rows=len(table["train"]),
    )  # fmt: skip
    test = table["test"].slice(0, ROWS)
    assert len(test) == ROWS
    with h2o_server(settings):
        branch = Branch(plan, use_case.input_schema)
        try:
            frames = {
                name: branch.upload(name, part.drop_columns(list(KEYS)), "binary")
                for name, part in {**table, "test": test}.items()
            }
            trained = branch.train(use_case.training, "auc", frames["train"], frames["validate"], frames["blend"])
            algorithms, differences = set(), {}
            requests = requests_of(frames["test"].get_frame_data(), use_case)
            board = h2o.automl.get_automl(branch.prefix).leaderboard.as_data_frame(use_multi_thread=False)
            for number, name in enumerate(board["model_id"], 1):
                model = h2o.get_model(str(name))
                expected = branch.predictions(model, frames["test"])
                mojo, genmodel = branch.export_mojo(model, tmp_path / str(number))
                serve(settings, use_case, model.algo, number, test, expected, mojo, genmodel)
                answered = [ask(settings, row) for row in requests]
                assert {answer["model"]["version"] for answer in answered} == {number}
                scores = np.array([answer["probabilities"]["1"] for answer in answered])
                differences[str(name)] = float(np.abs(scores - expected).max())
                algorithms.add(model.algo)
        finally:
            branch.remove()
    assert differences == dict.fromkeys(differences, 0.0)
    assert trained.leaderboard
    assert {"glm", "gbm", "drf", "xgboost", "stackedensemble"} <= algorithms


def serve(
    settings: Settings, use_case: UseCase, algorithm: str, number: int, test: pa.Table,
    expected: np.ndarray[Any, np.dtype[np.float64]], mojo: Path, genmodel: Path,
) -> None:  # fmt: skip
    """Register a model, make it the champion, and wait until the sidecar serves it."""
    metrics = metrics_of(Scored("binary", truth_of(test["_label"], "binary", ()), expected))
    new = NewVersion(
        use_case=use_case.name, region=REGION, algorithm=algorithm, target="late",
        input_schema=use_case.input_schema, cache_ttl_seconds=60, metrics=metrics, naive_metrics=metrics,
        leaderboard=[], window=WINDOW, rows={"test": ROWS}, seed=1, h2o_version=H2O_VERSION, run=f"parity_{number}",
        mojo_bytes=mojo.stat().st_size, lineage=a_lineage(f"parity {number}"),
    )  # fmt: skip
    with connect(settings) as connection:
        version = register(connection, new, mojo=mojo, genmodel=genmodel, signing_key=signing_key(settings)).version
        move_alias(connection, use_case=use_case.name, region=REGION, version=version, moved_by="test", reason="parity")
    address = f"{settings.sidecar.url}/v1/models/{use_case.name}/{REGION}"
    deadline = time.monotonic() + 60
    while True:
        response = httpx.get(address)
        if response.is_success and response.json()["model"]["version"] == version:
            return
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)


def requests_of(frame: str, use_case: UseCase) -> list[dict[str, Any]]:
    """Requests with the features as H2O's own frame holds them, from its CSV with every digit.

    H2O packs a column of decimals as whole numbers and a scale, which moves some values by a last bit: 2510.91 comes
    back as 2510.9100000000003. Both sides must see the same numbers.
    """
    kinds = {name: column.type for name, column in use_case.input_schema.columns.items()}
    read = {"integer": lambda text: int(float(text)), "number": float, "category": str}
    return [
        {
            "use_case": use_case.name,
            "region": REGION,
            "entity_id": "00000000-0000-0000-0000-000000000000",
            "features": {name: read[kind](row[name]) if row[name] != "" else None for name, kind in kinds.items()},
        }
        for row in csv.DictReader(io.StringIO(frame))
    ]


_client = httpx.Client(timeout=30)


def ask(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """One prediction."""
    response = _client.post(f"{settings.sidecar.url}/v1/predict", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
