"""A deployment before its first command."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mage_platform.settings import PROJECT
from tests.provisioning.deployment import PGBOUNCER, Cluster, without_platform_variables


def make_secrets(folder: Path) -> dict[str, Any]:
    """What `secrets make` tells."""
    done = subprocess.run(
        [sys.executable, "-m", "mage_platform", "secrets", "make", str(folder), "--json"],
        env=without_platform_variables(),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def new_deployment(folder: Path) -> Iterator[Cluster]:
    """Secret files, a PostgreSQL without roles, and PgBouncer before it."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    deployment = Cluster(folder)
    make_secrets(deployment.secrets)
    address = deployment.secrets / "mage" / "mage_database_url"
    address.write_text(address.read_text().replace("pgbouncer:6432", f"127.0.0.1:{deployment.pooler_port}"))
    try:
        deployment.start_postgres()
        deployment.start_pgbouncer()
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for the tests of a module: the first of them finds it untouched."""
    with new_deployment(tmp_path_factory.mktemp("deployment")) as deployment:
        yield deployment
