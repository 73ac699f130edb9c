"""The overlays, rendered once for all tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.manifests import overlays
from tests.manifests.admission import Rendered


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `k8s/` with secrets."""
    return overlays.copy_with_secrets(tmp_path_factory.mktemp("manifests"))


@pytest.fixture(scope="session")
def rendered(manifests: Path) -> Mapping[str, Rendered]:
    """Every overlay by its name."""
    return {name: overlays.read(overlays.render(manifests, name)) for name in overlays.OVERLAYS}


@pytest.fixture(scope="session")
def production(rendered: Mapping[str, Rendered]) -> Rendered:
    """The overlay `production`."""
    return rendered["production"]


@pytest.fixture(scope="session")
def files(rendered: Mapping[str, Rendered], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Every overlay as one file, the jobs of branches included."""
    folder = tmp_path_factory.mktemp("rendered")
    return {name: overlays.write(each.everything, folder / f"{name}.yaml") for name, each in rendered.items()}
