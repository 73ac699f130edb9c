"""PostgreSQL and H2O for the tests of the training steps, without Mage around them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mage_platform.local.embedded import running
from mage_platform.settings import Settings, load_settings


@pytest.fixture(scope="session")
def training_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a migrated database and an H2O server."""
    folder = tmp_path_factory.mktemp("training")
    asked = load_settings(
        state_folder=folder / "state", use_cases_folder=folder / "use_cases", h2o={"memory_limit_gib": 2, "threads": 2}
    )
    with running(asked, ("postgres", "h2o"), migrate=True) as started:
        yield started
