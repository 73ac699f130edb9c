"""The overlays use all that lies in `k8s/`, and any kubectl since 1.28 can render them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.manifests.admission import Rendered
from tests.manifests.faults.changes import one
from tests.manifests.overlays import MANIFESTS, OVERLAYS

KUSTOMIZATIONS = sorted(MANIFESTS.rglob("kustomization.yaml"))


def test_there_is_a_small_overlay_and_one_for_production() -> None:
    assert OVERLAYS == ["local", "production"]


def objects(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file with objects, and each as `Kind/name`."""
    for path in folder.rglob("*.yaml"):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                if isinstance(document, dict) and "kind" in document:
                    yield path, f"{document['kind']}/{document['metadata']['name']}"


@pytest.mark.integration
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_of_the_base_is_left_out(rendered: Mapping[str, Rendered], overlay: str) -> None:
    of_base = list(objects(MANIFESTS / "base"))
    assert len(of_base) > 30
    for _, which in of_base:
        assert one(rendered[overlay].documents, which)


@pytest.mark.integration
def test_every_component_is_used_by_an_overlay(rendered: Mapping[str, Rendered]) -> None:
    everything = [each for overlay in rendered.values() for each in overlay.documents]
    names = {f"{each['kind']}/{each['metadata']['name']}" for each in everything}
    assert {which for _, which in objects(MANIFESTS / "components")} <= names


@pytest.mark.integration
def test_every_configuration_file_reaches_a_pod(rendered: Mapping[str, Rendered]) -> None:
    """Files beside the manifests end, as they are, in a ConfigMap."""
    for overlay, folders in (("production", ("base", "components")), ("local", ("base",))):
        maps = [each.get("data", {}) for each in rendered[overlay].of("ConfigMap")]
        texts = {text for data in maps for text in data.values()}
        lines = {f"{name}={value}" for data in maps for name, value in data.items()}
        known = {path for folder in folders for path, _ in objects(MANIFESTS / folder)}
        for folder in folders:
            for path in (each for each in (MANIFESTS / folder).rglob("*") if each.is_file()):
                if path in known or path.name == "kustomization.yaml" or _is_patch(path):
                    continue
                text = path.read_text()
                if path.suffix == ".env":
                    wanted = {line for line in text.splitlines() if line and not line.startswith("#")}
                    names = {line.partition("=")[0] for line in wanted - lines}
                    assert overlay == "local" or not names, f"{path}: {names} stand in no ConfigMap"
                else:
                    assert text in texts, f"{path} is in no ConfigMap"


def _is_patch(path: Path) -> bool:
    return path.suffix == ".yaml" and isinstance(yaml.safe_load(path.read_text()), list)


@pytest.mark.integration
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exactly_the_secrets_that_are_made_are_brought(
    rendered: Mapping[str, Rendered], manifests: Path, overlay: str
) -> None:
    folder = manifests / "overlays" / overlay / "secrets"
    made = {str(path.relative_to(folder)) for path in folder.glob("*/[!.]*")}
    brought = {
        f"{each['metadata']['name'].rpartition('-')[0]}/{key}"
        for each in rendered[overlay].of("Secret")
        for key in each["data"]
    }
    assert brought == made
    assert "postgres-superuser/postgres_superuser_password" in made


def test_a_file_of_patches_holds_one() -> None:
    """kustomize of kubectl 1.28 refuses a file with several: "unable to parse SM or JSON patch"."""
    for path in KUSTOMIZATIONS:
        for patch in yaml.safe_load(path.read_text()).get("patches", []):
            text = (path.parent / patch["path"]).read_text() if "path" in patch else patch["patch"]
            assert len(list(yaml.safe_load_all(text))) == 1, f"{path.parent / patch.get('path', '')}: one file for each"


def test_nothing_that_newer_kubectl_warns_of_is_used() -> None:
    deprecated = {"bases", "vars", "commonLabels", "patchesStrategicMerge", "patchesJson6902", "imageTags"}
    for path in KUSTOMIZATIONS:
        assert not deprecated & set(yaml.safe_load(path.read_text())), path
