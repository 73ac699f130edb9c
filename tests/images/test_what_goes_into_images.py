"""What the Dockerfiles copy, held against the code, without building anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from mage_platform.settings import PROJECT

IMAGES = sorted((PROJECT / "k8s" / "images").glob("*/Dockerfile"))
IMPORT_ALL = """
import importlib, pkgutil, serving, mage_platform
for package in (serving, mage_platform):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def copied(dockerfile: Path, target: Path) -> None:
    """Do what the COPY instructions from the context do, below a folder that stands for WORKDIR."""
    for each in DockerfileParser(str(dockerfile)).structure:
        if each["instruction"] == "COPY" and not each["value"].startswith("--from"):
            *sources, place = each["value"].split()
            for source in sources:
                taken = PROJECT / source
                if taken.is_dir():
                    shutil.copytree(taken, target / place, ignore=shutil.ignore_patterns("__pycache__"))
                elif not place.startswith("/"):
                    aim = target / place / taken.name if place.endswith("/") else target / place
                    aim.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(taken, aim)


def imported(folder: Path) -> str:
    """What Python says when everything below a folder is imported with the sidecar's libraries."""
    command = [str(PROJECT / ".venv-serving" / "bin" / "python"), "-c", IMPORT_ALL]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr


def test_the_sidecars_image_has_every_module_that_it_imports(tmp_path: Path) -> None:
    copied(PROJECT / "k8s" / "images" / "sidecar" / "Dockerfile", tmp_path)
    assert imported(tmp_path) == ""
    queries = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.sql")}
    named = {
        path.parent.relative_to(tmp_path) / name
        for path in tmp_path.rglob("*.py")
        for name in re.findall(r'"(\w+\.sql)"', path.read_text())
    }
    assert named <= queries
    (tmp_path / "mage_platform" / "features" / "online.py").unlink()
    assert "No module named 'mage_platform.features.online'" in imported(tmp_path)


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.parent.name)
def test_what_an_image_copies_is_there_and_not_kept_from_the_build(dockerfile: Path) -> None:
    admitted = re.findall(r"(?m)^!(.+)$", (PROJECT / ".dockerignore").read_text())
    for each in DockerfileParser(str(dockerfile)).structure:
        if each["instruction"] == "COPY" and not each["value"].startswith("--from"):
            for source in each["value"].split()[:-1]:
                assert (PROJECT / source).exists(), source
                assert any(source == name or source.startswith(f"{name}/") for name in admitted), source


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.parent.name)
def test_every_builder_can_build_it_and_its_version_is_the_projects(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in text
    instructions = DockerfileParser(str(dockerfile)).structure
    assert instructions[-1]["instruction"] == "CMD"
    for each in instructions:
        # Kaniko knows no mounts, buildah 1.28 neither `--link` nor documents within
        assert "--mount" not in each["value"] and "--link" not in each["value"] and "<<" not in each["value"]


def test_every_program_in_an_image_is_executable_for_git() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "k8s/images"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    modes = {line.split()[3]: line.split()[0] for line in listed}
    programs = {path for path in modes if path.endswith((".sh", "/mage-platform"))}
    assert len(programs) == 3
    assert {path for path in programs if modes[path] != "100755"} == set()
