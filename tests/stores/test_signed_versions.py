"""What leaves the registry to be loaded is whole, and signed as what it is asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mage_platform.contracts import ModelVersion
from mage_platform.database import connect
from mage_platform.errors import ArtifactCorrupt, SignatureInvalid
from mage_platform.local.first_signing import sign_once
from mage_platform.local.surroundings import platform_environment
from mage_platform.registry import (
    champions,
    fetch_model,
    model_version,
    model_versions,
    move_alias,
    register,
    sign_registered,
    signing_key,
    verification_keys,
)
from mage_platform.registry.artifacts import store_artifact
from mage_platform.settings import PROJECT, Settings
from mage_platform.training.promotion import promote
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo
from tests.stores.registry_samples import a_version, handed_on, stranger, with_new_key

pytestmark = pytest.mark.integration
UNSIGN = "UPDATE platform.model_versions SET signature = NULL, signed_by = NULL"
ALTER = "UPDATE platform.artifact_chunks SET chunk = set_byte(chunk, 5, 255 - get_byte(chunk, 5)) WHERE sha256 = %s"


@pytest.fixture
def registered(settings: Settings, tmp_path: Path) -> ModelVersion:
    return _register(settings, tmp_path, "1")


def _register(settings: Settings, folder: Path, run: str, region: str = "Bern") -> ModelVersion:
    mojo, jar = folder / f"{run}-{region}.zip", folder / "h2o-genmodel.jar"
    mojo.write_bytes(os.urandom(1_500_000))
    jar.write_bytes(b"jar")
    with connect(settings) as connection:
        new = a_version(run=run, region=region)
        return register(connection, new, mojo=mojo, genmodel=jar, signing_key=signing_key(settings))


def _fetch(settings: Settings, folder: Path, region: str = "Bern", version: int = 1) -> tuple[Path, Path]:
    with connect(settings) as connection:
        model = model_version(connection, "rides", region, version)
        return fetch_model(connection, model, folder, verification_keys(settings))


def _execute(settings: Settings, statement: str, *values: object) -> None:
    with connect(settings) as connection:
        connection.execute(statement, values)  # type: ignore[arg-type]


def test_a_signed_version_is_fetched_with_both_files(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    mojo, jar = _fetch(settings, tmp_path / "cache")
    assert mojo.read_bytes() == (tmp_path / "1-Bern.zip").read_bytes()
    assert jar.read_bytes() == b"jar"


@pytest.mark.parametrize("cached", [False, True])
def test_an_unsigned_version_is_refused_from_the_database_and_from_the_disk(
    settings: Settings, registered: ModelVersion, tmp_path: Path, cached: bool
) -> None:
    if cached:
        _fetch(settings, tmp_path / "cache")
    _execute(settings, UNSIGN)
    with pytest.raises(SignatureInvalid, match="not signed"):
        _fetch(settings, tmp_path / "cache")
    assert (tmp_path / "cache").exists() == cached


@pytest.mark.parametrize("cached", [False, True])
def test_a_version_of_another_key_is_refused_from_the_database_and_from_the_disk(
    settings: Settings, registered: ModelVersion, tmp_path: Path, cached: bool
) -> None:
    if cached:
        _fetch(settings, tmp_path / "cache")
    foreign = stranger(settings).sign(registered)
    _execute(
        settings, "UPDATE platform.model_versions SET signature = %s, signed_by = %s",
        foreign.signature, foreign.signed_by,
    )  # fmt: skip
    with pytest.raises(SignatureInvalid, match=f"unknown key {foreign.signed_by}"):
        _fetch(settings, tmp_path / "cache")


@pytest.mark.parametrize("what", ["region", "version", "mojo", "jar"])
def test_a_good_artifact_under_another_name_is_refused(
    settings: Settings, registered: ModelVersion, tmp_path: Path, what: str
) -> None:
    other = _register(settings, tmp_path, "2", region="Chur" if what == "region" else "Bern")
    place = ("rides", other.region, other.version)
    where = "WHERE use_case = %s AND region = %s AND version = %s"
    if what == "jar":
        with connect(settings) as connection:
            (tmp_path / "other.jar").write_bytes(b"another jar")
            digest = store_artifact(connection, tmp_path / "other.jar", "genmodel")
        _execute(settings, f"UPDATE platform.model_versions SET genmodel_sha256 = %s {where}", digest, *place)
    else:
        moved = (registered.mojo_sha256, registered.signature if what != "mojo" else other.signature)
        _execute(
            settings, f"UPDATE platform.model_versions SET mojo_sha256 = %s, signature = %s {where}", *moved, *place
        )
    with pytest.raises(SignatureInvalid, match="does not fit"):
        _fetch(settings, tmp_path / "cache", other.region, other.version)


def test_an_altered_file_on_the_disk_is_replaced_and_an_altered_one_in_the_database_refused(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    mojo, _ = _fetch(settings, tmp_path / "cache")
    good = mojo.read_bytes()
    mojo.write_bytes(good[:-1])
    assert _fetch(settings, tmp_path / "cache")[0].read_bytes() == good
    mojo.write_bytes(good[:-1])
    _execute(settings, ALTER, registered.mojo_sha256)
    with pytest.raises(ArtifactCorrupt, match=registered.mojo_sha256):
        _fetch(settings, tmp_path / "cache")


def test_signing_what_is_there_takes_whole_versions_and_names_the_others(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    altered = _register(settings, tmp_path, "2")
    _execute(settings, UNSIGN)
    signed = _register(settings, tmp_path, "3")
    _execute(settings, ALTER, altered.mojo_sha256)
    key, keys = signing_key(settings), verification_keys(settings)
    with connect(settings) as connection:
        outcome = {each.model.version: each.refused for each in sign_registered(connection, key, keys)}
    assert outcome.keys() == {1, 2}
    assert outcome[1] == ""
    assert altered.mojo_sha256 in outcome[2]
    with connect(settings) as connection:
        kept = {each.version: each for each in model_versions(connection)}
    assert kept[2].signature is None
    assert kept[3] == signed
    assert _fetch(settings, tmp_path / "cache")


def test_after_the_key_was_replaced_all_good_versions_are_signed_again_and_the_old_key_can_go(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    forged = _register(settings, tmp_path, "2")
    _execute(settings, "UPDATE platform.model_versions SET signature = %s WHERE version = 2", registered.signature)
    renewed = with_new_key(settings)
    key, keys = signing_key(renewed), verification_keys(renewed)
    with connect(settings) as connection:
        assert list(sign_registered(connection, key, keys)) == []
        outcome = {each.model.version: each.refused for each in sign_registered(connection, key, keys, again=True)}
    assert outcome[1] == ""
    assert "does not fit" in outcome[2]
    new_public = (renewed.verification_keys or "").split("-----BEGIN", 2)[1]
    new_only = renewed.model_copy(update={"verification_keys": "-----BEGIN" + new_public})
    assert _fetch(new_only, tmp_path / "cache")
    with pytest.raises(SignatureInvalid, match="unknown key"):
        _fetch(new_only, tmp_path / "cache", version=forged.version)


def test_the_local_stack_signs_what_was_there_at_its_first_start_and_never_again(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    settings.state_folder.mkdir()
    _execute(settings, UNSIGN)
    assert sign_once(settings) == ["signed the 1 model versions registered before the platform signed them"]
    assert _fetch(settings, tmp_path / "cache")
    _execute(settings, UNSIGN)
    assert sign_once(settings) == []
    with pytest.raises(SignatureInvalid, match="not signed"):
        _fetch(settings, tmp_path / "cache")


def test_promotion_does_not_load_an_unsigned_champion_and_decides_on_the_other_regions_first(
    settings: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    with connect(settings) as connection:
        move_alias(connection, use_case="rides", region="Bern", version=1, moved_by="anna", reason="first")
    candidates = [_register(settings, tmp_path, "2", region) for region in ("Bern", "Chur")]
    _execute(settings, UNSIGN + " WHERE region = 'Bern' AND version = 1")
    demo.write_use_case(settings.use_cases_folder)
    with capture_logs() as logs, pytest.raises(SignatureInvalid, match="version 1 of rides/Bern is not signed"):
        promote(settings, load_use_case(settings, demo.NAME), handed_on(candidates, tmp_path), moved_by="run 2")
    with connect(settings) as connection:
        assert [(each.model.region, each.model.version) for each in champions(connection)] == [("Bern", 1), ("Chur", 1)]
    [line] = [line for line in logs if line["event"] == "model refused"]
    assert (line["audit"], line["region"], line["challenger"]) == (True, "Bern", 2)


def _command(settings: Settings, server: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not (settings.state_folder / "secrets").exists():
        shutil.copytree(server.state_folder / "secrets", settings.state_folder / "secrets")
    environment = {**os.environ, **platform_environment(settings)}
    return subprocess.run(
        [sys.executable, "-m", "mage_platform", *arguments],
        env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_command_signs_and_a_promotion_by_hand_of_an_unsigned_version_is_refused(
    settings: Settings, database_server: Settings, registered: ModelVersion, tmp_path: Path
) -> None:
    _execute(settings, UNSIGN)
    promote = ("models", "promote", "rides", "Bern", "1", "--reason", "a test")
    refused = _command(settings, database_server, *promote)
    assert (refused.returncode, "mage-platform models sign" in refused.stderr) == (2, True)

    done = _command(settings, database_server, "models", "sign", "--json")
    assert done.returncode == 0, done.stderr
    [line] = json.loads(done.stdout)
    assert (line["version"], line["refused"], line["signed_by"]) == (1, None, signing_key(settings).key_id)
    assert _command(settings, database_server, *promote).returncode == 0

    altered = _register(settings, tmp_path, "2")
    _execute(settings, UNSIGN + " WHERE version = 2")
    _execute(settings, ALTER, altered.mojo_sha256)
    failed = _command(settings, database_server, "models", "sign", "--region", "Bern")
    assert (failed.returncode, altered.mojo_sha256 in failed.stderr) == (1, True)

    (settings.state_folder / "secrets" / "platform_signing_key").unlink()
    missing = _command(settings, database_server, "models", "sign")
    assert (missing.returncode, "mount the secret file platform_signing_key" in missing.stderr) == (2, True)
