"""Names, labels and variables as Kubernetes accepts them (RFC 1123, RFC 1035), each object once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Document, Rendered, name_of, namespace_of
from tests.manifests.admission.findings import Finding, check, found

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_RBAC = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
# a pod's name, which becomes a host name and a label, is made from it
_LONGEST = {"CronJob": 52, "StatefulSet": 52, "Service": 63, "Namespace": 63, "Job": 63, "Deployment": 63}


@check
def names_are_dns_names(rendered: Rendered) -> Iterator[Finding]:
    """Objects, containers, volumes and ports."""
    for document in rendered.everything:
        name, kind = name_of(document), document["kind"]
        rule = {"Service": _SERVICE, "Namespace": _LABEL, "StatefulSet": _LABEL}.get(kind, _SUBDOMAIN)
        if kind in _RBAC:
            rule = _PATH_SEGMENT
        if not rule.fullmatch(name) or len(name) > _LONGEST.get(kind, 253):
            yield found(
                document, "metadata.name", name,
                "not a DNS name: small letters, digits and '-', beginning and ending with a letter or digit, at most "
                f"{_LONGEST.get(kind, 253)} characters",
            )  # fmt: skip
    for workload in rendered.workloads:
        named = [(each.where, each.name) for each in workload.containers]
        named += [(f"{workload.where}.spec.volumes", name) for name in workload.volumes]
        for where, name in named:
            if not _LABEL.fullmatch(name) or len(name) > 63:
                yield found(workload, f"{where}.name", name, "not a DNS label of at most 63 characters")
        for container in workload.containers:
            for port in container.ports:
                name = port.get("name", "p")
                if not _LABEL.fullmatch(name) or len(name) > 15 or "--" in name or not re.search("[a-z]", name):
                    yield found(
                        workload, f"{container.where}.ports.name", name,
                        "not a port's name: at most 15 small letters, digits and single '-', one letter at least",
                    )  # fmt: skip


@check
def labels_have_the_right_form(rendered: Rendered) -> Iterator[Finding]:
    """Labels and label selectors, wherever they stand, and the keys of annotations."""
    for document in rendered.everything:
        for where, key, value in _labels(document):
            prefix, slash, name = key.rpartition("/")
            if (slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253)) or not _is_label(name):
                yield found(
                    document, where, key, "not the key of a label: [prefix/]name, the name at most 63 characters"
                )
            if value is None:
                continue
            if not isinstance(value, str):
                yield found(document, f"{where}.{key}", value, "a label's value is text: put it in quotation marks")
            elif value and not _is_label(value):
                yield found(
                    document, f"{where}.{key}", value,
                    "not a label's value: at most 63 letters, digits, '-', '_', '.', the first and last no sign",
                )  # fmt: skip


@check
def variables_have_the_right_form(rendered: Rendered) -> Iterator[Finding]:
    """Environment variables: name, each once, a text as value, and `$(NAME)` only of those that stand above."""
    for workload in rendered.workloads:
        for container in workload.containers:
            seen: set[str] = set()
            for each in container.spec.get("env") or []:
                name, where = each.get("name", ""), f"{container.where}.env[{each.get('name')}]"
                if not _VARIABLE.fullmatch(name):
                    yield found(workload, where, name, "not a variable's name")
                if name in seen:
                    yield found(workload, where, name, "stands twice, the last counts: remove one")
                if "value" in each and not isinstance(each["value"], str):
                    yield found(workload, where, each["value"], "a variable's value is text: put it in quotation marks")
                for other in re.findall(r"(?<!\$)\$\(([^)]+)\)", str(each.get("value", ""))):
                    if other not in seen and not container.spec.get("envFrom"):
                        yield found(workload, where, each["value"], f"{other} is not set above it: put it first")
                seen.add(name)


@check
def objects_stand_once(rendered: Rendered) -> Iterator[Finding]:
    """Kind, namespace and name together; containers and volumes within a pod."""
    counted = Counter((each["kind"], namespace_of(each), name_of(each)) for each in rendered.everything)
    for (kind, namespace, name), times in counted.items():
        if times > 1:
            yield Finding(kind, name, "metadata.name", name, f"stands {times} times in namespace {namespace!r}")
    for workload in rendered.workloads:
        for field in ("containers", "initContainers", "volumes"):
            names = Counter(each.get("name") for each in workload.pod.get(field) or [])
            for name in (name for name, times in names.items() if times > 1):
                yield found(workload, f"{workload.where}.spec.{field}", name, "stands twice in the pod: rename one")
        names = Counter(port["name"] for each in workload.containers for port in each.ports if "name" in port)
        for name in (name for name, times in names.items() if times > 1):
            yield found(workload, f"{workload.where}.spec.containers.ports.name", name, "stands twice in the pod")


def _labels(document: Document) -> Iterator[tuple[str, str, Any]]:
    """Field, key and value of every label and selector; None as the value of an annotation."""

    def walk(value: Any, where: str) -> Iterator[tuple[str, str, Any]]:
        if isinstance(value, list):
            for number, inner in enumerate(value):
                yield from walk(inner, f"{where}[{number}]")
        if not isinstance(value, dict):
            return
        for key, inner in value.items():
            here = f"{where}.{key}".lstrip(".")
            plain = isinstance(inner, dict)
            of_service = document["kind"] == "Service" and here == "spec.selector"
            if plain and (key in ("labels", "matchLabels", "nodeSelector") or of_service):
                yield from ((here, each, content) for each, content in inner.items())
            elif plain and key == "annotations":
                yield from ((here, each, None) for each in inner)
            elif key not in ("data", "stringData", "binaryData"):
                yield from walk(inner, here)

    yield from walk(document, "")


def _is_label(text: str) -> bool:
    return bool(_QUALIFIED.fullmatch(text)) and len(text) <= 63
