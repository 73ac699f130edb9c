"""Overlays of `k8s/`, rendered by kustomize in a copy with secrets of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mage_platform.local.environments import manifest_tools
from mage_platform.settings import PROJECT
from tests.manifests.admission import Document, Rendered
from tests.manifests.branch_jobs import job_of_a_branch
from tests.manifests.secret_files import make_secrets

MANIFESTS = PROJECT / "k8s"
OVERLAYS = sorted(path.parent.name for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))


def tool(name: str) -> str:
    """Path of a program that `make test` installs for the manifests."""
    program = manifest_tools().folder / "bin" / name
    assert program.is_file(), f"{program} is missing: `make test` installs it"
    return str(program)


def ask(*command: str, folder: Path = PROJECT, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program and take what it says, whatever its exit code."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


def copy_with_secrets(folder: Path) -> Path:
    """A copy of `k8s/` in a folder, each overlay with the secret files it asks for."""
    copy = folder / "k8s"
    shutil.copytree(MANIFESTS, copy)
    for overlay in OVERLAYS:
        make_secrets(copy / "overlays" / overlay / "secrets")
    return copy


def render(manifests: Path, overlay: str) -> str:
    """What kustomize writes for an overlay."""
    done = ask(tool("kubectl"), "kustomize", str(manifests / "overlays" / overlay))
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return done.stdout


def read(text: str) -> Rendered:
    """The documents in a rendered text, and the jobs that Mage will start beside them."""
    documents: Sequence[Document] = [each for each in yaml.safe_load_all(text) if each]
    return Rendered(documents, job_of_a_branch(Rendered(documents)))


def write(documents: Sequence[dict[str, Any]], file: Path) -> Path:
    """Documents as one file, for a tool to read."""
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return file
