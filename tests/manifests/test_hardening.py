"""Checkov over rendered overlays and Dockerfiles: whatever it holds against them has its reason in the files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mage_platform.settings import PROJECT
from tests.manifests.admission import Rendered
from tests.manifests.faults import changed
from tests.manifests.faults.changes import FIRST, both, put
from tests.manifests.overlays import MANIFESTS, ask, tool, write

SKIPPED = PROJECT / ".checkov.yaml"
BUILDERS = {
    # root in its own container, whose files it makes anew at each step: users, capabilities, file system
    "image-builds": {"CKV_K8S_22", "CKV_K8S_23", "CKV_K8S_25", "CKV_K8S_29", "CKV_K8S_40"},
    # user namespaces are made by a set-uid program of the image, as its own user 1000
    "rootless-builds": {"CKV_K8S_20", "CKV_K8S_22", "CKV_K8S_28", "CKV_K8S_31", "CKV_K8S_37", "CKV_K8S_40"},
}
"""What a job that builds images cannot do without, by its namespace; neither is one of the platform's."""


def checkov(folder: Path) -> dict[str, Any]:
    """Its report on a folder, by framework. Without --skip-download it would call its makers."""
    done = ask(
        tool("checkov"), "--directory", str(folder), "--framework", "kubernetes", "dockerfile", "--skip-download",
        "--config-file", str(SKIPPED), "--compact", "--quiet", "--output", "json",
    )  # fmt: skip
    assert done.stdout, done.stderr
    reports = json.loads(done.stdout)
    return {each["check_type"]: each for each in (reports if isinstance(reports, list) else [reports])}


def failures(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]}


@pytest.mark.integration
def test_overlays_and_dockerfiles_are_hardened(rendered: Mapping[str, Rendered], tmp_path: Path) -> None:
    """Without the jobs of branches: Mage gives their pods no security context, so their containers have one each."""
    for name, each in rendered.items():
        write(each.documents, tmp_path / f"{name}.yaml")
    shutil.copytree(MANIFESTS / "images", tmp_path / "images")
    reports = checkov(tmp_path)
    of_builders = {
        namespace: {check for check, resource in failures(reports["kubernetes"]) if f".{namespace}." in resource}
        for namespace in BUILDERS
    }
    assert all(of_builders[namespace] <= needed for namespace, needed in BUILDERS.items()), of_builders
    for framework, at_least in (("kubernetes", 1_000), ("dockerfile", 50)):
        summary = reports[framework]["summary"]
        others = {each for each in failures(reports[framework]) if not any(f".{name}." in each[1] for name in BUILDERS)}
        assert others == set()
        assert summary["parsing_errors"] == 0
        assert summary["passed"] >= at_least, "it has read too little"
    # as many as there are, so that none was passed over
    documents = sum(len(each.documents) for each in rendered.values())
    assert reports["kubernetes"]["summary"]["resource_count"] >= documents


@pytest.mark.integration
def test_what_is_not_hardened_is_reported(production: Rendered, tmp_path: Path) -> None:
    wrong = both(
        put("*/redis", f"{FIRST}.securityContext.privileged", True),
        put("*/redis", f"{FIRST}.image", "redis:latest"),
        put("*/redis", "spec.template.spec.hostNetwork", True),
    )
    documents = [each for each in changed(production.documents, wrong) if each not in production.documents]
    write(documents, tmp_path / "wrong.yaml")
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN sudo apt-get update\n")
    reports = checkov(tmp_path)
    redis = {check for check, resource in failures(reports["kubernetes"]) if "redis" in resource}
    assert {"CKV_K8S_16", "CKV_K8S_14", "CKV_K8S_19"} <= redis
    assert {"CKV_DOCKER_7", "CKV_DOCKER_3"} <= {check for check, _ in failures(reports["dockerfile"])}


def test_whatever_is_left_out_says_why() -> None:
    lines = SKIPPED.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\s*- CKV", line):
            assert lines[number - 1].lstrip().startswith("# "), f"{SKIPPED.name}: {line} without a reason above it"
    for file in MANIFESTS.rglob("*.yaml"):
        for skipped in re.findall(r"checkov\.io/skip\S*:(.*)", file.read_text()):
            assert re.fullmatch(r" *\"?CKV\w+=.{20,}", skipped), f"{file}: {skipped} without a reason"
