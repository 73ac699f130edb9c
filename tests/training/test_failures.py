"""What becomes of a region, and of its siblings, when something breaks under its training."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mage_platform.contracts import FailedCandidate, GoodCandidate, RegionBatch, RegionPlan, UseCase
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.local import state_folder
from mage_platform.local.embedded import running
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.training import h2o_server
from mage_platform.training.batches import train_batch
from mage_platform.training.plan import plan_regions
from mage_platform.training.regions import train_region
from mage_platform.use_cases import load_use_case
from tests.h2o_requests import h2o_json
from tests.training import small_tables

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
CITIES = {"Bern": 600, "Chur": 400}


@pytest.fixture(scope="module")
def use_case(training_server: Settings) -> UseCase:
    """Two good regions and four that cannot be trained, each for a reason of its own."""
    table = small_tables.rows("binary", {**CITIES, "Few": 30, "One": 300, "Late": 300, "Never": 300})
    moment = table["ordered_at"]
    table.loc[table["city"] == "One", "outcome"] = "no"
    table = table[~((table["city"] == "Late") & (moment < pd.Timestamp("2024-04-01", tz="UTC")))]
    table.loc[table["city"] == "Never", "outcome"] = None
    name = "broken_deliveries"
    small_tables.declare(training_server, name, "binary", table)
    declared = load_use_case(training_server, name)
    rows = load_rows(training_server, declared)
    store_vectors(training_server, declared, build_vectors(training_server, declared, rows))
    return declared


def _plans(settings: Settings, use_case: UseCase, run: str, *regions: str) -> list[RegionPlan]:
    return plan_regions(settings, use_case, run=run, regions=list(regions))


def _nothing_is_left(settings: Settings) -> bool:
    frames = h2o_json(settings, "/3/Frames")["frames"]
    models = h2o_json(settings, "/3/Models")["models"]
    return not frames and not models


def test_regions_that_cannot_be_trained_end_as_reasons_and_the_others_are_trained(
    training_server: Settings, use_case: UseCase
) -> None:
    plans = _plans(training_server, use_case, "unfit", "Bern", "Few", "Late", "Never", "Nowhere", "One")
    outcomes = train_batch(training_server, use_case, RegionBatch(plans=plans)).candidates
    reasons = {each.plan.region: each.reason for each in outcomes if isinstance(each, FailedCandidate)}
    assert reasons.keys() == {"Few", "Late", "Never", "Nowhere", "One"}
    assert "labelled rows to train on, training.minimum_rows asks for 50" in reasons["Few"]
    for empty in ("Late", "Never", "Nowhere"):
        assert reasons[empty].startswith("only 0 labelled rows to train on")
    assert "rows of the train part have the label 0" in reasons["One"]
    assert isinstance(outcomes[0], GoodCandidate)
    assert _nothing_is_left(training_server)


def test_a_training_that_overruns_its_budget_is_cancelled_and_leaves_nothing_behind(
    training_server: Settings, use_case: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h2o_server, "OVERRUN_SECONDS", 0.5)
    monkeypatch.setattr(h2o_server, "OVERRUN_SHARE", 0.0)
    (plan,) = _plans(training_server, use_case, "overrun", "Bern")
    outcome = train_region(training_server, use_case, plan.model_copy(update={"maximum_models": 60}))
    assert isinstance(outcome, FailedCandidate)
    assert "did not end within" in outcome.reason
    assert "training.maximum_runtime_seconds" in outcome.reason
    deadline = time.monotonic() + 60
    while not _nothing_is_left(training_server):  # a cancelled job takes a moment to let go
        assert time.monotonic() < deadline
        time.sleep(0.5)
    jobs = h2o_json(training_server, "/3/Jobs")["jobs"]
    assert not [job for job in jobs if job["status"] == "RUNNING"]


def _child(settings: Settings, use_case: UseCase, batch: RegionBatch, answers: Any) -> None:
    answers.put(train_batch(settings, use_case, batch).candidates)


def test_a_child_that_was_killed_goes_on_where_it_stood(training_server: Settings, use_case: UseCase) -> None:
    """Bern is done when the process dies in the middle of Chur; started again, only Chur has a reason."""
    plans = _plans(training_server, use_case, "killed", "Bern", "Chur")
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_child, args=(training_server, use_case, RegionBatch(plans=plans), answers))
    child.start()
    marks = [training_server.runs_folder / "killed" / h2o_server.branch_prefix(plan) for plan in plans]
    deadline = time.monotonic() + 240
    while not (marks[1] / "under_way").exists():
        assert time.monotonic() < deadline and child.is_alive()
        time.sleep(0.01)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    modified = (marks[0] / "candidate.json").stat().st_mtime_ns
    bern, chur = train_batch(training_server, use_case, RegionBatch(plans=plans)).candidates
    assert isinstance(bern, GoodCandidate)
    assert (marks[0] / "candidate.json").stat().st_mtime_ns == modified
    assert isinstance(chur, FailedCandidate)
    assert "was killed" in chur.reason
    assert "--set regions=Chur" in chur.reason
    again = train_batch(training_server, use_case, RegionBatch(plans=plans)).candidates
    assert all(isinstance(each, GoodCandidate) for each in again)


def test_a_lost_h2o_server_ends_every_region_with_a_reason_that_says_so(
    training_server: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    asked = training_server.model_copy(update={"state_folder": tmp_path / "state"})
    with running(asked, ("h2o",)) as started:
        note = state_folder.read_note(started.state_folder)
        assert note is not None
        server = next(each.pid for each in note.services if each.name == "h2o")
        mine = training_server.model_copy(
            update={
                "h2o": started.h2o,
                "h2o_password": started.h2o_password,
                "state_folder": tmp_path / "runs",
            }
        )
        plans = _plans(mine, use_case, "lost", "Bern", "Chur")
        plans = [plan.model_copy(update={"maximum_models": 60}) for plan in plans]

        def kill() -> None:
            while not h2o_json(mine, "/3/Models")["models"]:
                time.sleep(0.05)
            os.kill(server, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        settings = mine.model_copy(update={"h2o": mine.h2o.model_copy(update={"connect_timeout_seconds": 3.0})})
        outcomes = train_batch(settings, use_case, RegionBatch(plans=plans)).candidates
        killer.join()
    assert [type(each) for each in outcomes] == [FailedCandidate, FailedCandidate]
    for each in outcomes:
        assert isinstance(each, FailedCandidate)
        assert "H2O" in each.reason
