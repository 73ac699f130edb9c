"""Overlays of `k8s/`, rendered by kustomize in a copy with secrets of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mage_platform.local.environments import manifest_tools
from mage_platform.provisioning.secret_folder import make_secrets
from mage_platform.settings import PROJECT, load_settings
from tests.manifests.admission import Document, Rendered
from tests.manifests.branch_jobs import job_of_a_branch

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
    """A copy of `k8s/` in a folder, each overlay with the secret files that `mage-platform secrets make` writes."""
    copy = folder / "k8s"
    shutil.copytree(MANIFESTS, copy, ignore=_made_secrets)
    for overlay in OVERLAYS:
        secrets = copy / "overlays" / overlay / "secrets"
        make_secrets(load_settings(), secrets)
        for name in ("tls.crt", "tls.key"):  # nothing makes the certificate, and nothing here reads it
            (secrets / "sidecar-tls").mkdir(exist_ok=True)
            (secrets / "sidecar-tls" / name).write_text(f"a {name}\n")
    return copy


def _made_secrets(folder: str, names: list[str]) -> list[str]:
    """Secrets that somebody made in the checkout stay there."""
    inside = Path(folder).name == "secrets"
    return [name for name in names if inside and (Path(folder) / name).is_dir()]


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
