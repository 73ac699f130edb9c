"""Every document has the form that Kubernetes 1.28, the oldest that is supported, and the newest known one ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.manifests.admission import Rendered
from tests.manifests.faults import changed
from tests.manifests.faults.changes import FIRST, Change, add, drop, put
from tests.manifests.overlays import MANIFESTS, OVERLAYS, ask, tool, write

pytestmark = pytest.mark.integration

VERSIONS = {"1.28": ("-k", "1.28"), "the newest": ()}


def complaints(file: Path, version: str, documents: int) -> list[str]:
    """Everything but a plain yes for each document: what it has no schema for it only warns of, with exit code 0."""
    done = ask(tool("kubernetes-validate"), *VERSIONS[version], "--strict", str(file))
    said = (done.stdout + done.stderr).splitlines()
    passed = [line for line in said if line.startswith("INFO ") and " passed for resource " in line]
    others = [line for line in said if line not in passed]
    if done.returncode and not others:
        others.append(f"exit code {done.returncode}")
    if len(passed) != documents and not others:
        others.append(f"{len(passed)} of {documents} documents were examined")
    return others


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_has_the_form_of(
    rendered: Mapping[str, Rendered], files: Mapping[str, Path], overlay: str, version: str
) -> None:
    said = complaints(files[overlay], version, len(rendered[overlay].everything))
    assert not said, "\n".join(said)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "file", sorted((MANIFESTS / "images" / "in_cluster").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_jobs_that_build_images_have_the_form_of(file: Path, tmp_path: Path, version: str) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    for each in documents:  # a name that Kubernetes makes up is none for the tool
        each["metadata"].setdefault("name", "made-up")
    said = complaints(write(documents, tmp_path / file.name), version, len(documents))
    assert not said, "\n".join(said)


FAULTS: dict[str, tuple[Change, str]] = {
    "an unknown field": (put("*/pgbouncer", "spec.replica", 2), "'replica' was unexpected"),
    "an API that is gone": (put("PodDisruptionBudget/h2o", "apiVersion", "policy/v1beta1"), "Couldn't find schema"),
    "a kind with a slip of the pen": (
        add({"apiVersion": "v1", "kind": "ConfigMpa", "metadata": {"name": "x"}}),
        "Couldn't find schema",
    ),
    "a number as a text": (put("*/sidecar", f"{FIRST}.ports[0].containerPort", "8000"), "containerPort"),
    "a probe without a port": (
        drop("*/sidecar", f"{FIRST}.livenessProbe.httpGet.port"),
        "'port' is a required property",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_form_is_refused(production: Rendered, tmp_path: Path, fault: str) -> None:
    change, words = FAULTS[fault]
    wrong = [each for each in changed(production.documents, change) if each not in production.documents]
    said = complaints(write(wrong, tmp_path / "wrong.yaml"), "1.28", len(wrong))
    assert len(said) == 1
    assert words in said[0]
