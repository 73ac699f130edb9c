"""Rules about container images: how they are named, and how they are built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.project import Project
from mage_platform.decisions.workloads import called, containers_of, workloads

_TWO_PARTS = ("postgres", "debian")
"""Their releases have a number of two parts."""
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_DAEMON = re.compile(r"\b(dockerd|docker-ce|docker\.io|docker-engine|podman system service)\b")
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")


def images(project: Project) -> Iterator[tuple[str, int, str]]:
    """Path, line and name of each image: of manifests, of kustomizations and of Dockerfiles."""
    for path, _, pod in workloads(project):
        for container in containers_of(pod):
            if "image" in container:
                yield path, container["image"].line, container["image"].text
    for path, parsed in project.yaml.items():
        if Path(path).name in ("kustomization.yaml", "kustomization.yml"):
            for image in (each for document in parsed for each in document["images"]):
                name = image["newName"].text or image["name"].text
                if "digest" in image:
                    yield path, image["digest"].line, f"{name}@{image['digest'].text}"
                elif "newTag" in image:
                    yield path, image["newTag"].line, f"{name}:{image['newTag'].text}"
    for path, instructions in project.dockerfiles.items():
        stages: set[str] = set()
        for each in instructions:
            if each.name == "FROM":
                words = [word for word in each.value.split() if not word.startswith("--")]
                if words and words[0].lower() not in {"scratch", *stages}:
                    yield path, each.line, words[0]
                if len(words) == 3 and words[1].lower() == "as":
                    stages.add(words[2].lower())


def floating_images(project: Project) -> Iterator[Finding]:
    """Images without a full version or a digest."""
    replaced = _retagged(project)
    for path, line, image in images(project):
        # A name that a kustomization of the project gives its tag is judged there.
        if not is_exact(image) and not (
            image in replaced and not path.endswith(("kustomization.yaml", "kustomization.yml"))
        ):
            yield Finding(path, line, "pinned-images", f"{image} floats")


def _retagged(project: Project) -> set[str]:
    return {
        image["name"].text
        for path, parsed in project.yaml.items()
        if Path(path).name in ("kustomization.yaml", "kustomization.yml")
        for document in parsed
        for image in document["images"]
        if "newTag" in image or "digest" in image
    }


def is_exact(image: str) -> bool:
    """Whether an image is always the same.

    >>> is_exact("python:3.11.4-slim"), is_exact("python:3.11"), is_exact("postgres:16.4"), is_exact("nginx")
    (True, False, True, False)
    """
    if _DIGEST.search(image):
        return True
    name, _, tag = image.rpartition("/")[2].partition(":")
    numbers = re.findall(r"\d+", re.split(r"[-+](?=[a-z])", tag)[0])
    return len(numbers) >= (2 if name in _TWO_PARTS else 3) or any(
        len(number) == 8 for number in re.findall(r"\d+", tag)
    )


def docker_daemons(project: Project) -> Iterator[Finding]:
    """Docker daemons in containers, and containers that reach the node's."""
    for path, document, pod in workloads(project):
        for container in containers_of(pod):
            image = container["image"].text
            if re.search(r"(^|/)docker(:|$)", image) and "cli" not in image:
                message = f"{called(document)} runs {image}"
                yield Finding(path, container["image"].line, "no-docker-in-docker", message)
        for volume in pod["volumes"]:
            mounted = volume["hostPath"]["path"]
            if mounted.text.endswith(_SOCKETS):
                message = f"{called(document)} mounts {mounted.text}"
                yield Finding(path, mounted.line, "no-docker-in-docker", message)
    for path, parsed in project.yaml.items():
        for document in parsed:
            for each in document.walk():
                if re.search(r"(^|/)docker:[\w.-]*dind", each.text):
                    yield Finding(path, each.line, "no-docker-in-docker", f"{each.text} is a Docker daemon")
    for path, instructions in project.dockerfiles.items():
        for instruction in instructions:
            base = instruction.name == "FROM" and re.search(r"(^|/)docker:\S*dind", instruction.value)
            if base or (instruction.name in ("RUN", "CMD", "ENTRYPOINT") and _DAEMON.search(instruction.value)):
                message = f"{instruction.name} {instruction.value.strip()[:60]} brings a Docker daemon"
                yield Finding(path, instruction.line, "no-docker-in-docker", message)
