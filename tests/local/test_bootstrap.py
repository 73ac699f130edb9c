"""The Python environments: when they are made, from which index, and what is said when they cannot be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mage_platform.local import bootstrap, environments, place_of_state
from mage_platform.local.environments import Environment, environments_for, make
from mage_platform.local.installer import Installer, Unsuccessful
from mage_platform.local.package_index import parse_pip_settings, uv_variables
from mage_platform.settings import load_settings

SOURCE = Path(bootstrap.__file__)


class NoteTaker(Installer):
    """An installer that writes down what it is asked for, and leaves an interpreter behind."""

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.fails = fails

    def create(self, folder: Path) -> None:
        self.asked.append("create")
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)

    def install(self, folder: Path, locks: Sequence[Path]) -> None:
        self.asked.append("install " + " ".join(lock.name for lock in locks))
        if self.fails:
            raise Unsuccessful("no network")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "serving").mkdir()
    for name in ("requirements.txt", "requirements-dev.txt", "serving/requirements.txt"):
        (tmp_path / name).write_text(f"{Path(name).stem}==1.0\n")
    return tmp_path


def bring_up_to_date(environment: Environment, *, fails: bool = False) -> list[str]:
    installer = NoteTaker(fails)
    make(environment, installer)
    return installer.asked


def test_another_python_is_refused_in_one_line_that_says_what_to_do() -> None:
    said = bootstrap.refusal((3, 9, 2), "run")
    assert said.startswith("error: Python 3.11 is needed, this is 3.9: ")
    assert "make run PYTHON=" in said
    assert "\n" not in said
    assert bootstrap.refusal((3, 11, 4), "run") == ""


def test_the_oldest_pythons_can_read_the_file_that_refuses_them() -> None:
    ast.parse(SOURCE.read_text(), feature_version=(3, 5))


def test_an_environment_is_made_once(checkout: Path) -> None:
    environment = environments_for("run", checkout)[0]
    assert bring_up_to_date(environment) == ["create", "install requirements.txt"]
    assert environment.is_current()
    assert bring_up_to_date(environment) == []


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Path) -> None:
    environment = environments_for("run", checkout)[0]
    bring_up_to_date(environment)
    (checkout / "requirements.txt").write_text("requirements==2.0\n")
    assert not environment.is_current()
    assert bring_up_to_date(environment) == ["install requirements.txt"]


def test_the_tools_for_tests_are_added_for_tests_and_kept_afterwards(checkout: Path) -> None:
    bring_up_to_date(environments_for("run", checkout)[0])
    assert bring_up_to_date(environments_for("test", checkout)[0]) == ["install requirements.txt requirements-dev.txt"]
    assert environments_for("run", checkout)[0].is_current()
    (checkout / "requirements.txt").write_text("requirements==2.0\n")
    assert bring_up_to_date(environments_for("run", checkout)[0]) == ["install requirements.txt requirements-dev.txt"]


@pytest.mark.parametrize(
    ("place", "folder", "lock"),
    [
        (-1, "schemathesis-environment", "tests/serving/schemathesis-requirements.txt"),
        (-2, "manifest-tools-environment", "tests/manifests/tools-requirements.txt"),
    ],
)
def test_tools_that_ask_for_other_versions_get_an_environment_of_their_own_among_the_local_data(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, place: int, folder: str, lock: str
) -> None:
    monkeypatch.delenv("PLATFORM_STATE_FOLDER", raising=False)
    tools = environments_for("test", checkout)[place]
    assert tools.folder == checkout / ".platform" / folder
    assert tools.locks == (checkout / lock,)
    tools.folder.mkdir(parents=True)
    assert not place_of_state.why_not(tools.folder.parent, checkout)


@pytest.mark.parametrize("whose", ["feast", "peers"])
def test_what_is_measured_beside_ours_gets_an_environment_of_its_own_among_the_local_data(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.delenv("PLATFORM_STATE_FOLDER", raising=False)
    assert [each.folder.name for each in environments_for("run", checkout)] == [".venv", ".venv-serving"]
    others = environments_for(f"bench-{whose}", checkout)[-1]
    assert others.folder == checkout / ".platform" / f"{whose}-environment"
    assert others.locks == (checkout / "benchmarks" / f"{whose}-requirements.txt",)
    others.folder.mkdir(parents=True)
    assert not place_of_state.why_not(others.folder.parent, checkout)


def test_a_half_made_environment_is_removed_and_made_anew(checkout: Path) -> None:
    environment = environments_for("run", checkout)[0]
    with pytest.raises(Unsuccessful):
        bring_up_to_date(environment, fails=True)
    leftover = environment.folder / "leftover"
    leftover.touch()
    assert not environment.is_current()
    assert bring_up_to_date(environment) == ["create", "install requirements.txt"]
    assert not leftover.exists()


def test_a_moved_environment_is_made_anew(checkout: Path) -> None:
    bring_up_to_date(environments_for("run", checkout)[0])
    moved = checkout.rename(checkout.with_name("moved"))
    assert bring_up_to_date(environments_for("run", moved)[0]) == ["create", "install requirements.txt"]


def test_what_pip_is_configured_with_reaches_uv() -> None:
    listing = (
        "global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'\n"
        "global.index-url='https://user:secret@company.example/simple'\n"
        "global.cert='/etc/company.pem'\n"
        ":env:.timeout='60'\n"
    )
    assert uv_variables(parse_pip_settings(listing), {}) == {
        "UV_DEFAULT_INDEX": "https://user:secret@company.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_the_install_section_of_pip_beats_the_global_one_and_the_environment_both() -> None:
    listing = "install.index-url='https://b.example'\nglobal.index-url='https://a.example'\n"
    assert parse_pip_settings(listing) == {"index-url": "https://b.example"}
    assert parse_pip_settings(listing + ":env:.index-url='https://c.example'\n") == {"index-url": "https://c.example"}


def test_what_is_set_for_uv_itself_wins() -> None:
    pip = {"index-url": "https://a.example"}
    assert uv_variables(pip, {"UV_DEFAULT_INDEX": "https://b.example"}) == {}
    assert uv_variables(pip, {"UV_INDEX_URL": "https://b.example"}) == {}


def test_no_registry_is_named_in_the_files_that_install() -> None:
    text = "".join(file.read_text() for file in SOURCE.parent.glob("*.py"))
    text += (environments.PROJECT / "Makefile").read_text()
    assert "pypi" not in text.lower()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("error: failed to write: No space left on device (os error 28)", "the disk is full"),
        ("error sending request: dns error: failed to lookup address", "the package index does not answer"),
        ("invalid peer certificate: UnknownIssuer", "PIP_CERT"),
        ("HTTP status client error (401 Unauthorized)", "PIP_INDEX_URL"),
    ],
)
def test_a_failure_both_installers_would_meet_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    monkeypatch.setenv("PLATFORM_STATE_FOLDER", str(tmp_path / "state"))
    (tmp_path / "requirements-bootstrap.txt").write_text("uv==0\n")
    uv = tmp_path / "state" / "installer" / "uv-0" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 2\n")
    uv.chmod(0o755)
    with pytest.raises(Unsuccessful, match="then run the same command again") as refused:
        Installer(tmp_path).install(tmp_path / ".venv", [])
    assert advice in str(refused.value)


def test_reset_asks_before_it_drops_anything(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    command = [sys.executable, str(SOURCE), "reset"]
    environment = {**os.environ, "PLATFORM_STATE_FOLDER": str(folder)}
    refused = subprocess.run(command, env=environment, input="no\n", capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert folder.exists()
    agreed = subprocess.run(command, env=environment, input="yes\n", capture_output=True, text=True, check=False)
    assert agreed.returncode == 0
    assert not folder.exists()


def test_reset_never_drops_a_folder_that_is_not_a_state_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for folder in (tmp_path, environments.PROJECT, environments.PROJECT.parent):
        environment = {**os.environ, "PLATFORM_STATE_FOLDER": str(folder)}
        command = [sys.executable, str(SOURCE), "reset"]
        refused = subprocess.run(command, env=environment, input="yes\n", capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert f"PLATFORM_STATE_FOLDER={folder} cannot be used" in refused.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_an_empty_state_folder_variable_means_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_STATE_FOLDER", "")
    assert place_of_state.chosen(tmp_path) == tmp_path / ".platform"
    assert load_settings().state_folder == environments.PROJECT / ".platform"


def test_make_without_a_target_lists_every_target_with_its_sentence() -> None:
    makefile = (environments.PROJECT / "Makefile").read_text()
    listed = subprocess.run(["make"], cwd=environments.PROJECT, capture_output=True, text=True, check=False).stdout
    for line in makefile.splitlines():
        if line.startswith(".PHONY:"):
            assert all(f"make {target} " in listed for target in line.split()[1:])
