"""A tiny Mage project, and a real Mage server that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mage_platform.local.ports import free_port
from mage_platform.orchestration.follow import MageAddress
from tests.orchestration.real_mage import Server, mage_of_tests, start_server, stop

collect_ignore_glob = ["project/*"]  # blocks are Mage's to import, not pytest's


@pytest.fixture
def mage_without_server(tmp_path: Path) -> MageAddress:
    return mage_of_tests(tmp_path, free_port())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_server(tmp_path_factory.mktemp("mage"))
    yield started
    stop(started)
