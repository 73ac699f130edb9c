"""Real models, real servers, and one sidecar that most tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mage_platform.local.embedded import running
from mage_platform.settings import PROJECT, Settings, load_settings
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered, sidecar
from tests.side_by_side import made_once


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    def train(folder: Path) -> None:
        command = [sys.executable, "-m", "tests.serving.train_models", str(folder)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return Trained(made_once(tmp_path_factory, "models", train))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = load_settings(state_folder=tmp_path_factory.mktemp("stack"))
    with running(settings, ("postgres", "valkey"), migrate=True) as effective:
        yield effective


@pytest.fixture(scope="session")
def served(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for region, model in {"north": "gbm", "south": "glm", "east": "xgboost"}.items():
        promote(servers, "delays", region, registered(servers, trained, "delays", region, model))
    with sidecar(servers, tmp_path_factory.mktemp("sidecar"), SIDECAR__REFRESH_SECONDS="0.2") as started:
        yield started
