"""The bridge of the pods, and rows to train on; used inside the namespaces only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mage_platform.contracts import UseCase
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo
from tests.cluster.kubernetes_network import bridge


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    with bridge():
        yield


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    """The demo use case, with its rows stored."""
    demo.write_use_case(settings.use_cases_folder)
    declared = load_use_case(settings, demo.NAME)
    store_vectors(settings, declared, build_vectors(settings, declared, load_rows(settings, declared)))
    return declared
