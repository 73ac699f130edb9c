"""`mage-platform keys`: what it prints, and what it writes."""

from __future__ import annotations

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mage_platform.api_keys import create_key, read_keys
from mage_platform.command_line.program import program


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_STATE_FOLDER", str(tmp_path / "state"))


def run(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(program, ["keys", *arguments])


def secret(tmp_path: Path, name: str) -> Path:
    return tmp_path / "state" / "secrets" / name


def test_a_key_is_printed_once_and_kept_as_its_hash_in_a_private_file(tmp_path: Path) -> None:
    done = run("create", "shop", "--use-case", "rides", "--use-case", "taxis", "--expires", "90d")
    assert done.exit_code == 0, done.stderr
    key = done.stdout.strip()
    assert key.startswith("mp_")
    assert len(key) == 46
    file = secret(tmp_path, "platform_api_keys")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text()
    (kept,) = json.loads(file.read_text())["keys"]
    assert kept["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert kept["use_cases"] == ["rides", "taxis"]
    listed = run("list", "--json")
    assert key not in listed.output
    (line,) = json.loads(listed.stdout)
    assert (line["name"], line["right"]) == ("shop", "read")
    assert "shop" in run("list").stdout


def test_the_own_key_is_kept_for_the_platforms_commands(tmp_path: Path) -> None:
    key = json.loads(run("create", "operations", "--use-case", "*", "--right", "admin", "--own", "--json").stdout)[
        "key"
    ]
    file = secret(tmp_path, "platform_api_key")
    assert file.read_text().strip() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("create", name, "--use-case", "*")
    assert run("revoke", "one").exit_code == 0
    assert [key["name"] for key in json.loads(run("list", "--json").stdout)] == ["two"]
    again = run("revoke", "one")
    assert again.exit_code == 3
    assert "'two'" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "a b", "--use-case", "*"], "name 'a b'"),
        (["create", "ok", "--use-case", "No-Such"], "use_cases"),
        (["create", "ok", "--use-case", "*", "--expires", "soon"], "--expires soon"),
        (["create", "ok", "--use-case", "*", "--expires", "2020-01-01T00:00:00Z"], "over already"),
        (["create", "ok", "--use-case", "*", "--expires", "2030-01-01T00:00:00"], "--expires 2030"),
    ],
)
def test_what_does_not_fit_is_named(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_name_is_given_once(tmp_path: Path) -> None:
    assert run("create", "shop", "--use-case", "*").exit_code == 0
    again = run("create", "shop", "--use-case", "*")
    assert again.exit_code == 2
    assert "revoke it first" in again.stderr


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: create_key(file, f"key-{number}", use_cases=("*",)), range(40)))
    kept = read_keys(file)
    assert kept is not None
    assert {key.name for key in kept.keys} == {f"key-{number}" for number in range(40)}
