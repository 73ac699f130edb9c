"""`mage-platform secrets`: what is written, what follows from what, and which faults are found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from mage_platform.api_keys import digest_of, read_keys
from mage_platform.command_line.program import program

ALL = {
    "postgres-superuser": {"postgres_superuser_password"},
    "pgbouncer": {"pgbouncer_password", "userlist.txt"},
    "platform-database": {"platform_database_password"},
    "mage": {
        "mage_database_url", "platform_mage_database_password", "platform_mage_owner_password", "mage_session_key",
    },
    "signing": {"platform_signing_key"},
    "verification-keys": {"platform_verification_keys"},
    "api-keys": {"platform_api_keys"},
    "redis": {"platform_redis_password"},
    "h2o": {"platform_h2o_password", "realm.properties"},
}  # fmt: skip
"""As the manifests mount them."""


def secrets(command: str, folder: Path, *, code: int = 0) -> Any:
    done = CliRunner().invoke(program, ["secrets", command, str(folder), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def text(folder: Path, path: str) -> str:
    return (folder / path).read_text().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secrets("make", tmp_path / "secrets")
    return tmp_path / "secrets"


def test_a_new_folder_gets_every_file_and_only_its_owner_reads_them(folder: Path) -> None:
    found = {each.name: {file.name for file in each.glob("[!.]*")} for each in folder.iterdir()}
    assert found == ALL
    for each in folder.rglob("*"):
        if each.name != ".gitignore":
            assert each.stat().st_mode & 0o777 == (0o700 if each.is_dir() else 0o600), each
    assert secrets("check", folder) == {"right": True, "faults": []}


def test_no_two_secrets_are_alike_and_a_second_folder_has_others(folder: Path, tmp_path: Path) -> None:
    secrets("make", tmp_path / "other")
    values = [file.read_text() for each in (folder, tmp_path / "other") for file in each.glob("*/[!.]*")]
    assert len(set(values)) == len(values) == 2 * sum(map(len, ALL.values()))


def test_git_takes_none_of_it(folder: Path) -> None:
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    assert subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True).stdout == ""


def test_what_belongs_together_fits_together(folder: Path) -> None:
    assert text(folder, "pgbouncer/userlist.txt") == f'"pgb_auth" "{text(folder, "pgbouncer/pgbouncer_password")}"'
    address = urlsplit(text(folder, "mage/mage_database_url"))
    assert (address.scheme, address.username, address.path) == ("postgresql+psycopg2", "mage", "/mage")
    assert (address.hostname, address.port) == ("pgbouncer", 6432)
    assert address.password == text(folder, "mage/platform_mage_database_password")
    signing = str(folder / "signing" / "platform_signing_key")
    public = subprocess.run(["openssl", "pkey", "-pubout", "-in", signing], check=True, capture_output=True, text=True)
    assert text(folder, "verification-keys/platform_verification_keys") == public.stdout.strip()
    digest = subprocess.run(
        ["md5sum"], input=text(folder, "h2o/platform_h2o_password"), check=True, capture_output=True, text=True
    ).stdout.split()[0]
    assert text(folder, "h2o/realm.properties") == f"platform: MD5:{digest},user"


def test_the_owners_password_and_the_first_key_are_shown_when_they_are_made_and_never_again(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = secrets("make", folder)
    assert first["mage_owner"]["email"] == "owner@platform.local"
    assert first["mage_owner"]["password"] == text(folder, "mage/platform_mage_owner_password")
    keys = read_keys(folder / "api-keys" / "platform_api_keys")
    assert keys is not None
    assert [(key.name, key.sha256) for key in keys.keys] == [("operations", digest_of(first["api_key"]["key"]))]
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    again = secrets("make", folder)
    assert not {"mage_owner", "api_key"} & set(again)
    assert (again["made"], again["followed"], again["closed"]) == ([], [], [])
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("removed", "follows"),
    [
        ("pgbouncer/pgbouncer_password", ["pgbouncer/userlist.txt"]),
        ("mage/platform_mage_database_password", ["mage/mage_database_url"]),
        ("signing/platform_signing_key", ["verification-keys/platform_verification_keys"]),
        ("h2o/platform_h2o_password", ["h2o/realm.properties"]),
        ("redis/platform_redis_password", []),
    ],
)
def test_a_removed_file_is_made_anew_and_what_follows_from_it_too(
    folder: Path, removed: str, follows: list[str]
) -> None:
    before = {path: text(folder, path) for path in (removed, *follows)}
    (folder / removed).unlink()
    told = secrets("make", folder)
    assert (told["made"], told["followed"]) == ([removed], follows)
    assert all(text(folder, path) != former for path, former in before.items())
    assert secrets("check", folder)["right"]


def test_what_a_person_wrote_into_a_file_that_follows_stays(folder: Path) -> None:
    address = folder / "mage" / "mage_database_url"
    address.write_text(address.read_text().replace("pgbouncer:6432", "pooler.example:7432") + "?sslmode=require")
    users = folder / "pgbouncer" / "userlist.txt"
    users.write_text('"metrics" "theirs"\n' + users.read_text())
    former = text(folder, "verification-keys/platform_verification_keys")
    for path in (
        "pgbouncer/pgbouncer_password",
        "mage/platform_mage_database_password",
        "signing/platform_signing_key",
    ):
        (folder / path).unlink()
    secrets("make", folder)
    password = text(folder, "mage/platform_mage_database_password")
    assert address.read_text() == f"postgresql+psycopg2://mage:{password}@pooler.example:7432/mage?sslmode=require"
    first, second = users.read_text().splitlines()
    assert first == '"metrics" "theirs"'
    assert text(folder, "pgbouncer/pgbouncer_password") in second
    assert former in text(folder, "verification-keys/platform_verification_keys"), "what it signed is served on"


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("redis/platform_redis_password", lambda file: file.unlink(), "is missing"),
    "empty": ("redis/platform_redis_password", lambda file: file.write_text(" \n"), "is empty"),
    "open file": ("signing/platform_signing_key", lambda file: file.chmod(0o640), "mode 0640"),
    "open folder": ("signing/platform_signing_key", lambda file: file.parent.chmod(0o755), "mode 0755"),
    "short": ("mage/platform_mage_owner_password", lambda file: file.write_text("admin"), "has 5 characters"),
    "two lines": ("mage/mage_session_key", lambda file: file.write_text("a" * 40 + "\n" + "b"), "more than one line"),
    "no text": ("mage/mage_session_key", lambda file: file.write_bytes(b"\xff\xfe" * 20), "cannot be read"),
    "other password": (
        "mage/mage_database_url",
        lambda file: file.write_text("postgresql+psycopg2://mage:other@pgbouncer:6432/mage"),
        "does not follow from platform_mage_database_password",
    ),
    "other user": ("pgbouncer/userlist.txt", lambda file: file.write_text('"postgres" "x"'), "does not follow from"),
    "other realm": ("h2o/realm.properties", lambda file: file.write_text("platform: other,user"), "does not follow"),
    "no public half": (
        "verification-keys/platform_verification_keys",
        lambda file: file.write_text("-----BEGIN PUBLIC KEY-----\n"),
        "does not follow from platform_signing_key",
    ),
    "no keys": ("api-keys/platform_api_keys", lambda file: file.write_text('{"keys": []}'), "has no key"),
    "no list": ("api-keys/platform_api_keys", lambda file: file.write_text("mp_clear"), "is not right"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_file_named(folder: Path, fault: str) -> None:
    path, break_it, problem = FAULTS[fault]
    break_it(folder / path)
    found = secrets("check", folder, code=1)
    assert not found["right"]
    (only,) = found["faults"]
    assert only["file"] == path
    assert problem in only["problem"]


@pytest.mark.parametrize("fault", ["missing", "empty", "open file", "open folder", "other password", "other realm"])
def test_making_mends_what_a_check_finds(folder: Path, fault: str) -> None:
    path, break_it, _ = FAULTS[fault]
    break_it(folder / path)
    secrets("make", folder)
    assert secrets("check", folder)["right"]


def test_for_a_person_the_secrets_stand_at_the_end_and_no_other_value_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    done = CliRunner(mix_stderr=False).invoke(program, ["secrets", "make", str(folder)])
    *_, login, key = done.stdout.splitlines()
    assert login.endswith(text(folder, "mage/platform_mage_owner_password"))
    assert key.startswith("API key 'operations'")
    assert "sidecar-tls is not made" in done.stderr
    for path in ("mage/mage_session_key", "postgres-superuser/postgres_superuser_password"):
        assert text(folder, path) not in done.stdout + done.stderr
