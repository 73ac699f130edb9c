"""Mage's own back-fill of `ingest_features`, with a real Mage server, its scheduler, and PostgreSQL (through PgBouncer
where it is installed)."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mage_platform.database import connect
from mage_platform.local.embedded import running
from mage_platform.local.mage import mage_environment
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.surroundings import block_environment
from mage_platform.orchestration.follow import MageAddress
from mage_platform.orchestration.mage_session import PUBLIC_API_KEY, MageSession
from mage_platform.settings import PROJECT, Settings, load_settings
from tests import demo_use_case as demo
from tests.orchestration.real_mage import Server, serve, start_backfill, stop, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EVERYTHING = """
    SELECT entity_id, event_time, ingested_at, feature_vector FROM platform.features ORDER BY event_time, entity_id
"""
INDEX = "SELECT c.oid, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = %s"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("backfill")
    # without expectations: great-expectations would take most of the time, and other tests validate
    declaration = re.sub(r"(?ms)^expectations:.*?(?=^training:)", "", demo.DECLARATION)
    demo.write_use_case(folder / "use_cases", rides(), declaration=declaration)
    asked = load_settings(state_folder=folder / "state", use_cases_folder=folder / "use_cases")
    with running(asked, ("postgres", "pgbouncer"), migrate=True) as started:
        yield started


@pytest.fixture(scope="module")
def mage(settings: Settings) -> Iterator[MageSession]:
    """A session at a server of this project that looks for work more often than the local stack's does."""
    passwords = keep_passwords(settings)
    environment = {**block_environment(settings), **mage_environment(settings, passwords)}
    address = MageAddress(
        base_url=settings.mage.url,
        email=settings.mage.owner_email,
        password=passwords.mage_owner.get_secret_value(),
        project=PROJECT,
        environment={**environment, "SCHEDULER_TRIGGER_INTERVAL": "0.5"},
        log_file=Path(settings.state_folder) / "logs" / "headless.log",
    )
    server: Server = serve(address, Path(settings.state_folder) / "mage.log")
    try:
        with contextlib.closing(
            MageSession(address.base_url, address.email, address.password, PUBLIC_API_KEY)
        ) as session:
            yield session
    finally:
        stop(server)


def rides() -> pd.DataFrame:
    """Rides with one at the very beginning and one at the very end of the back-filled window."""
    rows = demo.ride_rows()
    rows.loc[0, "booked_at"] = pd.Timestamp("2024-02-01T00:00:00Z")
    rows.loc[1, "booked_at"] = pd.Timestamp("2024-04-01T00:00:00Z")
    return rows


def back_fill(mage: MageSession, start: str, end: str, **variables: Any) -> list[dict[str, Any]]:
    """Back-fill the rides by months, to the end; the runs."""
    variables = {"use_case": demo.NAME, **variables}
    runs = start_backfill(
        mage, "ingest_features", f"{start} 00:00:00", f"{end} 00:00:00", "month", 1, variables=variables
    )

    def state(run: dict[str, Any]) -> str:
        return str(mage.request("GET", f"/api/pipeline_runs/{run['id']}")["pipeline_run"]["status"])

    ended = ("completed", "failed", "cancelled")
    wait_until(lambda: all(state(run) in ended for run in runs), 400, "the end of the back-fill")
    assert [state(run) for run in runs] == ["completed"] * len(runs)
    return runs


def stored(settings: Settings) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return connection.execute(EVERYTHING).fetchall()


def test_a_back_fill_stores_exactly_its_intervals_and_a_second_one_changes_nothing(
    settings: Settings, mage: MageSession
) -> None:
    runs = back_fill(mage, "2024-02-01", "2024-03-01")
    assert len(runs) == 2
    booked = rides()["booked_at"]
    wanted = booked[(booked >= "2024-02-01T00:00:00Z") & (booked < "2024-04-01T00:00:00Z")]
    first = stored(settings)
    assert [row[1] for row in first] == sorted(wanted.dt.to_pydatetime())
    with connect(settings) as connection:
        described = connection.execute(
            "SELECT window_start, window_end, vectors FROM platform.described_windows WHERE region IS NULL ORDER BY 1"
        ).fetchall()
        index = connection.execute(INDEX, ["idx_features_vector_gin"]).fetchone()
    months = [pd.Timestamp(f"2024-0{month}-01", tz="UTC") for month in (2, 3, 4)]
    assert described == [
        (begin, end, int(((booked >= begin) & (booked < end)).sum())) for begin, end in itertools.pairwise(months)
    ]

    back_fill(mage, "2024-03-01", "2024-03-01", bulk="true")  # one interval, which Mage itself gives no end
    assert stored(settings) == first
    with connect(settings) as connection:
        made_anew = connection.execute(INDEX, ["idx_features_vector_gin"]).fetchone()
    assert made_anew is not None and index is not None
    assert made_anew[1] and made_anew[0] != index[0]
