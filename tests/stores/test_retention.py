"""Retention in the registry and on the disk: what goes, what stays, and that history stays readable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mage_platform.contracts import ModelVersion, PromotionDecision, UseCase
from mage_platform.contracts.use_case import Retention
from mage_platform.database import connect
from mage_platform.errors import ContractViolated, NotFound
from mage_platform.local.surroundings import platform_environment
from mage_platform.registry import (
    alias_history,
    fetch_model,
    forget_artifacts,
    model_version,
    model_versions,
    move_alias,
    record_decision,
    register,
    sign_registered,
    signing_key,
    verification_keys,
)
from mage_platform.settings import PROJECT, Settings
from mage_platform.training.pruning import Pruned, prune
from mage_platform.training.registration import register_candidates
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo
from tests.stores.registry_samples import a_candidate, a_lineage, a_version, await_waiting

pytestmark = pytest.mark.integration
LATER = datetime.now(UTC) + timedelta(days=100)
"""A moment at which no version registered now is young."""


@pytest.fixture
def use_case(settings: Settings) -> UseCase:
    demo.write_use_case(settings.use_cases_folder)
    declared = load_use_case(settings, demo.NAME)
    return declared.model_copy(update={"retention": Retention(keep_versions=2, keep_days=30)})


def _register(
    settings: Settings, folder: Path, run: int, *, content: bytes = b"", jar: bytes = b"jar", region: str = "Bern"
) -> ModelVersion:
    mojo, genmodel = folder / f"{run}.zip", folder / "h2o-genmodel.jar"
    mojo.write_bytes(content or os.urandom(1_200_000))
    genmodel.write_bytes(jar)
    with connect(settings) as connection:
        new = a_version(run=str(run), region=region)
        return register(connection, new, mojo=mojo, genmodel=genmodel, signing_key=signing_key(settings))


def _promote(settings: Settings, version: int, region: str = "Bern") -> None:
    with connect(settings) as connection:
        move_alias(connection, use_case="rides", region=region, version=version, moved_by="anna", reason="test")


def _kept(settings: Settings) -> dict[int, bool]:
    """Version of Bern: whether its MOJO and jar can still be fetched, to the last byte."""
    kept = {}
    with connect(settings) as connection:
        for model in model_versions(connection, region="Bern"):
            try:
                fetch_model(connection, model, settings.state_folder / "fetched", verification_keys(settings))
                kept[model.version] = True
            except NotFound:
                kept[model.version] = False
    shutil.rmtree(settings.state_folder / "fetched", ignore_errors=True)
    return kept


def _bytes_kept(settings: Settings) -> int:
    with connect(settings) as connection:
        row = connection.execute("SELECT sum(length(chunk)) FROM platform.artifact_chunks").fetchone()
    assert row is not None
    return int(row[0])


def test_old_versions_lose_their_artifacts_and_stay_readable(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    versions = [_register(settings, tmp_path, run) for run in range(1, 7)]
    for version in (1, 2, 3):
        _promote(settings, version)
    before = _bytes_kept(settings)
    pruned = prune(settings, use_case, now=LATER)
    # 5 and 6 are the newest, 3 is champion, 2 is what a rollback goes back to
    assert [(each.region, each.version) for each in pruned.versions] == [("Bern", 1), ("Bern", 4)]
    assert _kept(settings) == {6: True, 5: True, 4: False, 3: True, 2: True, 1: False}
    assert pruned.freed_bytes == 2 * 1_200_000 == before - _bytes_kept(settings)
    with connect(settings) as connection:
        first = model_version(connection, "rides", "Bern", 1)
        assert first.model_copy(update={"artifacts_dropped_at": None}) == versions[0]
        assert first.artifacts_dropped_at is not None
        assert [move.to_version for move in alias_history(connection, region="Bern")] == [3, 2, 1]
    assert prune(settings, use_case, now=LATER).versions == []


def test_within_the_days_everything_stays(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    for run in range(1, 5):
        _register(settings, tmp_path, run)
    pruned = prune(settings, use_case)
    assert (pruned.versions, pruned.freed_bytes) == ([], 0)
    assert all(_kept(settings).values())


def test_a_dry_run_tells_the_same_and_changes_nothing(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    for run in range(1, 5):
        _register(settings, tmp_path, run)
    told = prune(settings, use_case, now=LATER, dry_run=True)
    assert all(_kept(settings).values())
    assert prune(settings, use_case, now=LATER) == told
    assert [each.version for each in told.versions] == [1, 2]


def test_an_alias_cannot_move_to_a_version_without_its_mojo(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    for run in range(1, 4):
        _register(settings, tmp_path, run)
    prune(settings, use_case, now=LATER)
    with pytest.raises(ContractViolated, match="version 1 of rides/Bern cannot be served any more: retention dropped"):
        _promote(settings, 1)
    with connect(settings) as connection:
        assert alias_history(connection) == []
        key, keys = signing_key(settings), verification_keys(settings)
        connection.execute("UPDATE platform.model_versions SET signature = NULL, signed_by = NULL")
        assert {each.model.version for each in sign_registered(connection, key, keys)} == {2, 3}


def test_bytes_that_a_kept_version_shares_stay_and_bytes_that_come_back_are_written_again(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    _register(settings, tmp_path, 1, content=b"shared with a kept one", jar=b"old jar")
    _register(settings, tmp_path, 2, content=b"of an old one alone", jar=b"old jar")
    _register(settings, tmp_path, 3)
    _register(settings, tmp_path, 4, content=b"shared with a kept one", jar=b"old jar")
    assert [each.version for each in prune(settings, use_case, now=LATER).versions] == [2]
    assert _kept(settings) == {4: True, 3: True, 2: False, 1: True}
    _register(settings, tmp_path, 5)
    _register(settings, tmp_path, 6, content=b"of an old one alone", jar=b"old jar")
    assert _kept(settings)[6]
    assert _kept(settings)[2], "the same bytes serve it again"
    # 5 and 6 are kept; 2 has the bytes of 6
    assert [each.version for each in prune(settings, use_case, now=LATER).versions] == [1, 3, 4]
    assert _kept(settings) == {6: True, 5: True, 4: False, 3: False, 2: True, 1: False}


def test_a_jar_goes_with_the_last_version_that_needs_it_of_any_use_case(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    for run in (1, 2, 3):
        _register(settings, tmp_path, run, jar=b"old jar" if run == 1 else b"jar")
    other = a_version(run="9").model_copy(update={"use_case": "flights"})
    (tmp_path / "h2o-genmodel.jar").write_bytes(b"old jar")
    (tmp_path / "9.zip").write_bytes(b"a model of another use case")
    with connect(settings) as connection:
        register(
            connection, other, mojo=tmp_path / "9.zip", genmodel=tmp_path / "h2o-genmodel.jar",
            signing_key=signing_key(settings),
        )  # fmt: skip

    def jars() -> int:
        with connect(settings) as connection:
            row = connection.execute(
                "SELECT count(*) FROM platform.artifacts WHERE kind = 'genmodel' AND dropped_at IS NULL"
            ).fetchone()
        assert row is not None
        return int(row[0])

    assert [each.version for each in prune(settings, use_case, now=LATER).versions] == [1]
    assert jars() == 2
    with connect(settings) as connection:
        new = other.model_copy(update={"run": "10", "lineage": a_lineage("another training")})
        (tmp_path / "h2o-genmodel.jar").write_bytes(b"jar")
        (tmp_path / "9.zip").write_bytes(b"the next model of the other use case")
        register(
            connection, new, mojo=tmp_path / "9.zip", genmodel=tmp_path / "h2o-genmodel.jar",
            signing_key=signing_key(settings),
        )  # fmt: skip
    flights = use_case.model_copy(update={"name": "flights", "retention": Retention(keep_versions=1, keep_days=1)})
    assert [each.version for each in prune(settings, flights, now=LATER).versions] == [1]
    assert jars() == 1


def test_a_registration_under_way_keeps_the_bytes_it_relies_on(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    """The clean-up waits for a transaction that refers to an old artifact but is not committed yet."""
    for run in (1, 2, 3):
        _register(settings, tmp_path, run, content=b"the first model" if run == 1 else b"")
    outcome: list[Pruned] = []
    cleaning = threading.Thread(target=lambda: outcome.append(prune(settings, use_case, now=LATER)))
    (tmp_path / "again.zip").write_bytes(b"the first model")
    with connect(settings) as connection:
        register(
            connection, a_version(run="4"), mojo=tmp_path / "again.zip", genmodel=tmp_path / "h2o-genmodel.jar",
            signing_key=signing_key(settings),
        )  # fmt: skip
        cleaning.start()
        await_waiting(settings)
    cleaning.join(30)
    assert [each.version for each in outcome[0].versions] == [2]
    assert _kept(settings) == {4: True, 3: True, 2: False, 1: True}


def _age(path: Path, hours: float) -> None:
    for each in [path, *path.rglob("*")]:
        os.utime(each, (time.time() - hours * 3600,) * 2)


def test_folders_of_runs_go_when_decided_on_or_a_day_old(settings: Settings, use_case: UseCase, tmp_path: Path) -> None:
    runs = settings.runs_folder
    good = a_candidate(runs, run="11", region="Bern")
    a_candidate(runs, run="11", region="Chur")  # of the same run, not registered yet
    a_candidate(runs, run="12", region="Bern")  # a training under way
    a_candidate(runs, run="13", region="Bern")
    _age(runs / "13", 25)
    whole = a_candidate(runs, run="14", region="Bern")
    late = a_candidate(runs, run="15", region="Bern")  # registered; its held-out rows are needed for the decision
    registration = register_candidates(settings, use_case, [good, whole, late])
    with connect(settings) as connection:
        for version in registration.versions[:2]:
            decision = PromotionDecision(
                use_case="rides", region="Bern", version=version.version, promoted=False, reason="a test",
                decided_at=datetime.now(UTC),
            )  # fmt: skip
            record_decision(connection, decision)
    pruned = prune(settings, use_case)
    assert set(pruned.run_folders) == {"11/Bern", "13", "14/Bern"}
    assert {path.relative_to(runs).as_posix() for path in runs.glob("*/*")} == {"11/Chur", "12/Bern", "15/Bern"}
    assert not (runs / "14").exists()
    # the block that registers may be run again although its files are gone
    assert register_candidates(settings, use_case, [good, whole, late]).versions == registration.versions


def test_copies_on_the_disk_that_no_champion_needs_go_after_an_hour(
    settings: Settings, use_case: UseCase, tmp_path: Path
) -> None:
    models = [_register(settings, tmp_path, run) for run in (1, 2, 3)]
    _promote(settings, 1)
    copies = settings.state_folder / "artifacts"
    with connect(settings) as connection:
        for model in models:
            fetch_model(connection, model, copies, verification_keys(settings))
    (copies / ".abandoned").write_bytes(b"half a download")
    _age(copies, 2)
    with connect(settings) as connection:
        fetch_model(connection, models[2], copies, verification_keys(settings))  # used just now
    pruned = prune(settings, use_case)
    assert set(pruned.cached_files) == {".abandoned", f"{models[1].mojo_sha256}.zip"}
    assert {path.name for path in copies.iterdir()} == {
        f"{models[0].mojo_sha256}.zip", f"{models[2].mojo_sha256}.zip", f"{models[0].genmodel_sha256}.jar",
    }  # fmt: skip
    assert forget_artifacts(tmp_path / "nowhere", ()) == []


def test_the_command_shows_what_would_go_and_drops_it(
    settings: Settings, database_server: Settings, tmp_path: Path
) -> None:
    retention = "retention: {keep_versions: 1, keep_days: 1}\n"
    demo.write_use_case(settings.use_cases_folder, declaration=demo.DECLARATION + retention)
    for run in (1, 2):
        _register(settings, tmp_path, run)
    with connect(settings) as connection:
        connection.execute("UPDATE platform.model_versions SET registered_at = now() - interval '3 days'")
    shutil.copytree(database_server.state_folder / "secrets", settings.state_folder / "secrets")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mage_platform", "models", *arguments],
            env={**os.environ, **platform_environment(settings)},
            cwd=PROJECT, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    told = command("prune", "--dry-run", "--json")
    assert told.returncode == 0, told.stderr
    [outcome] = json.loads(told.stdout)
    assert [(each["region"], each["version"]) for each in outcome["versions"]] == [("Bern", 1)]
    assert (outcome["dry_run"], outcome["freed_bytes"]) == (True, 1_200_000)
    done = command("prune", "--use-case", "rides")
    assert (done.returncode, "freed 1.1 MiB in the database" in done.stdout) == (0, True), done.stderr
    refused = command("promote", "rides", "Bern", "1", "--reason", "a test")
    assert (refused.returncode, "retention dropped its MOJO" in refused.stderr) == (2, True)
    assert "1 dropped" in command("list", "--all").stdout
    assert command("prune", "--use-case", "nobody").returncode == 3
