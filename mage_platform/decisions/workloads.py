"""What runs in a cluster: manifests found among the YAML files, and their pods."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mage_platform.decisions.located_yaml import Located
from mage_platform.decisions.project import Project

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet")
_QUANTITY = re.compile(r"^([0-9.]+)\s*([A-Za-z]*)$")
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def documents(project: Project) -> Iterator[tuple[str, Located]]:
    """Every document that is a Kubernetes object, lists taken apart."""
    for path, parsed in project.yaml.items():
        for document in parsed:
            if document["kind"].text == "List":
                yield from ((path, each) for each in document["items"])
            elif "kind" in document and "apiVersion" in document:
                yield path, document


def workloads(project: Project) -> Iterator[tuple[str, Located, Located]]:
    """Path, object and pod spec of everything that runs pods."""
    for path, document in documents(project):
        kind = document["kind"].text
        if kind not in KINDS:
            continue
        if kind == "Pod":
            yield path, document, document["spec"]
        elif kind == "CronJob":
            yield path, document, document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        else:
            yield path, document, document["spec"]["template"]["spec"]


def containers_of(pod: Located) -> list[Located]:
    """Its containers, those of its start among them."""
    return [each for name in ("initContainers", "containers", "ephemeralContainers") for each in pod[name]]


def called(document: Located) -> str:
    """Kind and name."""
    return f"{document['kind'].text} {document['metadata']['name'].text}"


def is_patch(pod: Located) -> bool:
    """Whether a manifest only changes another one: its containers name no image."""
    return all("image" not in each for each in containers_of(pod))


def bytes_of(quantity: str) -> float | None:
    """A Kubernetes quantity of memory in bytes; None for what is none.

    >>> bytes_of("4Gi"), bytes_of("500M"), bytes_of("much")
    (4294967296.0, 500000000.0, None)
    """
    match = _QUANTITY.match(quantity.strip())
    if match is None or match.group(2) not in _UNITS:
        return None
    return float(match.group(1)) * _UNITS[match.group(2)]
