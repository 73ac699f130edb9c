"""In production Mage starts with secrets of its own, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mage_platform.errors import SettingsInvalid
from mage_platform.orchestration.mage_variables import production_variables
from mage_platform.settings import PREFIX, PROJECT, Settings, load_settings

SECRETS = {
    "platform_mage_owner_password": "the owner's own password",
    "mage_session_key": "a key of thirty-two characters..",
    "mage_database_url": "postgresql+psycopg2://mage:word@pgbouncer:6432/mage",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value + "\n")
    return tmp_path


def in_production(folder: Path) -> Settings:
    settings = load_settings(secrets_folder=folder, state_folder=Path("/state"))
    return settings.model_copy(update={"environment": "production"})


def test_they_come_from_the_files_whatever_the_environment_says(folder: Path) -> None:
    given = {"DEFAULT_OWNER_PASSWORD": "admin", "JWT_SECRET": "materia", "REQUIRE_USER_AUTHENTICATION": "0"}
    variables = {**given, **production_variables(in_production(folder), given, Path("/app"))}
    assert variables["DEFAULT_OWNER_PASSWORD"] == SECRETS["platform_mage_owner_password"]
    assert variables["JWT_SECRET"] == SECRETS["mage_session_key"]
    assert variables["MAGE_DATABASE_CONNECTION_URL"] == SECRETS["mage_database_url"]
    assert variables["REQUIRE_USER_AUTHENTICATION"] == "1"
    assert variables["DEFAULT_OWNER_EMAIL"] == "owner@platform.local"
    assert variables["MAGE_DATA_DIR"] == "../state/mage"
    assert variables["HELP_IMPROVE_MAGE"] == "false"


def test_without_an_address_of_its_own_mage_goes_where_the_platform_goes(folder: Path) -> None:
    (folder / "mage_database_url").unlink()
    (folder / "platform_mage_database_password").write_text("wo/rd")
    address = production_variables(in_production(folder), {})["MAGE_DATABASE_CONNECTION_URL"]
    assert address == "postgresql+psycopg2://mage:wo%2Frd@127.0.0.1:15432/mage"
    (folder / "platform_mage_database_password").unlink()
    with pytest.raises(SettingsInvalid, match="platform_mage_database_password is missing"):
        production_variables(in_production(folder), {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("platform_mage_owner_password", None),
        ("platform_mage_owner_password", "\n"),
        ("platform_mage_owner_password", "admin"),
        ("mage_session_key", None),
        ("mage_session_key", ""),
        ("mage_session_key", "materia"),
        ("mage_session_key", "fifteen letters"),
    ],
)
def test_a_server_without_a_secret_of_its_own_does_not_start_and_names_the_file(
    folder: Path, name: str, value: str | None
) -> None:
    (folder / name).unlink() if value is None else (folder / name).write_text(value)
    environment = {each: text for each, text in os.environ.items() if not each.upper().startswith(PREFIX)}
    environment |= {
        "PLATFORM_ENVIRONMENT": "production",
        "PLATFORM_DATABASE__THROUGH_PGBOUNCER": "true",
        "PLATFORM_SECRETS_FOLDER": str(folder),
        "PLATFORM_STATE_FOLDER": str(folder / "state"),
        "DEFAULT_OWNER_PASSWORD": "a password in the pod's specification",
        "JWT_SECRET": "a key in the pod's specification",
    }
    command = [sys.executable, "-m", "mage_platform.orchestration.mage_server", "start", str(PROJECT)]
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Mage does not start in production, because the secret file {folder / name} ")


def test_a_pod_without_the_address_of_the_metadata_does_not_fall_back_to_a_file(tmp_path: Path) -> None:
    (script,) = (PROJECT / "k8s").rglob("run_app.sh")
    environment = {"PATH": os.environ["PATH"], "PLATFORM_SECRETS_FOLDER": str(tmp_path)}
    done = subprocess.run(["sh", str(script), "echo", "started"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the secret file {tmp_path}/mage_database_url is missing or empty" in done.stderr
