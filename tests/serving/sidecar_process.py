"""A sidecar in a process and an environment of its own, and what the tests put into the registry for it."""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from mage_platform.contracts import BinaryMetrics, FeatureColumn, InputSchema, NewVersion, TrainingWindow
from mage_platform.database import connect
from mage_platform.local.surroundings import platform_environment
from mage_platform.registry import move_alias, register, signing_key
from mage_platform.settings import PROJECT, Settings
from tests.stores.registry_samples import a_lineage

INTERPRETER = PROJECT / ".venv-serving" / "bin" / "python"
ENTITY = "7cf06540-e6e0-54cb-8483-c525c4b50d97"
SCHEMA = InputSchema(
    columns={
        "month": FeatureColumn(type="integer", minimum=1, maximum=12),
        "distance": FeatureColumn(type="number", minimum=0, maximum=6000),
        "temperature": FeatureColumn(type="number", missing="allowed"),
        "carrier": FeatureColumn(type="category", missing="allowed"),
        "gate": FeatureColumn(type="category"),
        "weekend": FeatureColumn(type="boolean"),
        "terminals": FeatureColumn(type="integer"),
    }
)
_METRICS = BinaryMetrics(auc=0.7, log_loss=0.6, average_precision=0.5, rows=100, positive_share=0.4)
_NAIVE = BinaryMetrics(auc=0.6, log_loss=0.7, average_precision=0.4, rows=100, positive_share=0.4)
_START = datetime(2026, 1, 1, tzinfo=UTC)


@functools.cache
def _rows(file: Path) -> list[dict[str, Any]]:
    """Some tests ask for them before each of hundreds of requests."""
    return list(json.loads(file.read_text()))


@dataclass(frozen=True)
class Trained:
    """Real models, and H2O's own predictions with them for the same vectors."""

    folder: Path

    @property
    def genmodel(self) -> Path:
        return self.folder / "h2o-genmodel.jar"

    def mojo(self, name: str) -> Path:
        return self.folder / f"{name}.zip"

    def vectors(self) -> list[dict[str, Any]]:
        return [dict(row) for row in _rows(self.folder / "vectors.json")]  # tests change them

    def predictions(self, name: str) -> list[dict[str, Any]]:
        return [dict(row) for row in _rows(self.folder / f"{name}.json")]

    def contributions(self, name: str) -> list[dict[str, float]]:
        """Of each feature, and `BiasTerm`."""
        with (self.folder / f"{name}_contributions.csv").open() as file:
            return [{feature: float(text) for feature, text in row.items()} for row in csv.DictReader(file)]


def registered(
    settings: Settings,
    trained: Trained,
    use_case: str,
    region: str,
    model: str,
    run: str = "run_1",
    maximum_vector_age_seconds: int | None = None,
    explainer: str | None = None,
    **more: Any,
) -> int:
    """Register one of the trained models, with another beside it and further fields; returns its number."""
    new = NewVersion(
        use_case=use_case,
        region=region,
        algorithm=model,
        target="late",
        input_schema=SCHEMA,
        cache_ttl_seconds=60,
        maximum_vector_age_seconds=maximum_vector_age_seconds,
        metrics=_METRICS,
        naive_metrics=_NAIVE,
        leaderboard=[],
        window=TrainingWindow(
            train_until=_START,
            validate_until=_START + timedelta(days=1),
            blend_until=_START + timedelta(days=1),
            test_until=_START + timedelta(days=2),
        ),
        rows={"train": 2000},
        seed=1,
        h2o_version="3.46.0.11",
        mojo_bytes=trained.mojo(model).stat().st_size,
        lineage=a_lineage(f"{run}/{use_case}/{region}/{model}"),
        run=run,
    ).model_copy(update={"explainer_algorithm": explainer, **more})
    with connect(settings) as connection:
        return register(
            connection,
            new,
            mojo=trained.mojo(model),
            genmodel=trained.genmodel,
            signing_key=signing_key(settings),
            explainer=trained.mojo(explainer) if explainer else None,
        ).version


def promote(settings: Settings, use_case: str, region: str, version: int) -> None:
    """Make a version champion."""
    with connect(settings) as connection:
        move_alias(connection, use_case=use_case, region=region, version=version, moved_by="test", reason="test")


@dataclass
class Sidecar:
    """A running sidecar."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    settings: Settings
    log: Path

    def predict(self, use_case: str, region: str, features: dict[str, Any] | None, **more: Any) -> httpx.Response:
        """Ask for one prediction."""
        body = {"use_case": use_case, "region": region, "entity_id": ENTITY, **more}
        if features is not None:
            body["features"] = features
        return self.client.post("/v1/predict", json=body)

    def explain(self, use_case: str, region: str, features: dict[str, Any] | None, **more: Any) -> httpx.Response:
        """Ask for one explanation."""
        body = {"use_case": use_case, "region": region, "entity_id": ENTITY, **more}
        if features is not None:
            body["features"] = features
        return self.client.post("/v1/explain", json=body)

    def readiness(self) -> dict[str, Any]:
        """What `/health/ready` says."""
        return dict(self.client.get("/health/ready").json())

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def await_version(self, use_case: str, region: str, version: int, seconds: float = 15) -> None:
        """Wait until a version is served."""
        until = time.monotonic() + seconds
        while True:
            answer = self.client.get(f"/v1/models/{use_case}/{region}")
            if answer.status_code == 200 and answer.json()["model"]["version"] == version:
                return
            assert time.monotonic() < until, answer.text
            time.sleep(0.05)


@contextmanager
def sidecar(settings: Settings, folder: Path, *, ready: bool = True, **variables: str) -> Iterator[Sidecar]:
    """Run a sidecar for as long as the block lasts.

    Args:
        settings: Where its servers are, and its port.
        folder: For its log.
        ready: Whether to wait until it is ready; otherwise until it lives.
        variables: Further `PLATFORM_*` variables, without the prefix.
    """
    environment = {**os.environ, **platform_environment(settings)}
    environment |= {f"PLATFORM_{name}": value for name, value in variables.items()}
    log = folder / "sidecar.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(INTERPRETER), "-m", "serving"], cwd=PROJECT, env=environment, stdout=output, stderr=output
        )
    with httpx.Client(base_url=settings.sidecar.url, timeout=10) as client:
        try:
            _await_answer(client, "/health/ready" if ready else "/health/live", process, log)
            yield Sidecar(process, client, settings, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=20)


def _await_answer(client: httpx.Client, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 40
    while True:
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
