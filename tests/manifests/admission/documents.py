"""The rendered documents of an overlay, and what the checks ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Document = dict[str, Any]
_TEMPLATE = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "StorageClass", "PersistentVolume", "PriorityClass"}


@dataclass(frozen=True)
class Container:
    """A container of a pod, and where it stands in its document."""

    where: str
    spec: Document
    begins: bool
    """True for an init container."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.spec.get("name", ""))

    @property
    def ports(self) -> list[Document]:
        """The ports it declares."""
        return list(self.spec.get("ports") or [])


@dataclass(frozen=True)
class Workload:
    """A document that makes pods."""

    document: Document
    where: str
    """Field of the pod template: `spec.template`."""
    template: Document

    @property
    def kind(self) -> str:
        """`Deployment`, `CronJob` ..."""
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return name_of(self.document)

    @property
    def namespace(self) -> str:
        """Namespace of its pods."""
        return namespace_of(self.document)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its pods."""
        return dict(self.template.get("metadata", {}).get("labels") or {})

    @property
    def pod(self) -> Document:
        """The specification of its pods."""
        return dict(self.template.get("spec") or {})

    @property
    def containers(self) -> list[Container]:
        """Init containers first, then the others."""
        return [
            Container(f"{self.where}.spec.{field}[{each.get('name', number)}]", each, field == "initContainers")
            for field in ("initContainers", "containers", "ephemeralContainers")
            for number, each in enumerate(self.pod.get(field) or [])
        ]

    @property
    def volumes(self) -> dict[str, Document]:
        """Its volumes by name."""
        return {each["name"]: each for each in self.pod.get("volumes") or []}


@dataclass(frozen=True)
class Rendered:
    """Everything that one overlay puts into the cluster, and the pods that are started there later.

    Args:
        documents: What kustomize wrote.
        started_later: Jobs that no manifest holds but which the platform creates: those of Mage's branches.
    """

    documents: Sequence[Document]
    started_later: Sequence[Document] = ()

    @cached_property
    def everything(self) -> list[Document]:
        """Both together."""
        return [*self.documents, *self.started_later]

    def of(self, *kinds: str) -> list[Document]:
        """The documents of some kinds."""
        return [each for each in self.everything if each["kind"] in kinds]

    def find(self, kind: str, name: str, namespace: str = "") -> Document | None:
        """One document, or nothing. Cluster-wide kinds have no namespace."""
        for each in self.of(kind):
            if name_of(each) == name and namespace in ("", namespace_of(each)):
                return each
        return None

    @cached_property
    def workloads(self) -> list[Workload]:
        """All documents that make pods."""
        made = []
        for document in self.everything:
            path = _TEMPLATE.get(document["kind"])
            if path is None:
                continue
            template = document
            for key in path:
                template = template.get(key) or {}
            made.append(Workload(document, ".".join(path), template))
        return made

    def selected(self, selector: Mapping[str, Any], namespace: str) -> list[Workload]:
        """The workloads in a namespace whose pods a label selector chooses; an empty one chooses all."""
        return [each for each in self.workloads if each.namespace == namespace and matches(selector, each.labels)]

    def variables(self, container: Container) -> dict[str, str]:
        """The environment variables of a container whose values are known: plain ones, and those of ConfigMaps."""
        values: dict[str, str] = {}
        for source in container.spec.get("envFrom") or []:
            if "configMapRef" in source:
                content = self._configuration(source["configMapRef"].get("name", ""))
                values |= {source.get("prefix", "") + key: value for key, value in content.items()}
        for each in container.spec.get("env") or []:
            key_of = (each.get("valueFrom") or {}).get("configMapKeyRef")
            if "value" in each:
                values[each["name"]] = str(each["value"])
            elif key_of:
                values[each["name"]] = self._configuration(key_of.get("name", "")).get(key_of.get("key", ""), "")
        return values

    def _configuration(self, name: str) -> dict[str, str]:
        return dict((self.find("ConfigMap", name) or {}).get("data") or {})

    def labels_of_namespace(self, namespace: str) -> dict[str, str]:
        """Labels of a namespace, with the one that Kubernetes itself sets on each."""
        document = self.find("Namespace", namespace) or {}
        own = document.get("metadata", {}).get("labels") or {}
        return {"kubernetes.io/metadata.name": namespace, **own}


def name_of(document: Document) -> str:
    """Name of an object."""
    return str(document.get("metadata", {}).get("name", ""))


def namespace_of(document: Document) -> str:
    """Namespace of an object; `default` when it names none, nothing for kinds that have none."""
    if document["kind"] in CLUSTER_WIDE:
        return ""
    return str(document.get("metadata", {}).get("namespace", "default"))


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (`matchLabels`, `matchExpressions`) chooses something with these labels.

    >>> matches({"matchExpressions": [{"key": "app", "operator": "In", "values": ["h2o", "mage"]}]}, {"app": "h2o"})
    True
    >>> matches({}, {"app": "h2o"})
    True
    """
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def lines_of(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in a document with the field it stands in.

    >>> list(lines_of({"spec": {"ports": [{"port": 80}]}}))
    [('spec.ports[0].port', 80)]
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from lines_of(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from lines_of(inner, f"{where}[{number}]")
    else:
        yield where, value
