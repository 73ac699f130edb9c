"""Who can open a connection to whom, computed from the NetworkPolicies: both sides must allow it.

As https://kubernetes.io/docs/concepts/services-networking/network-policies/ has it: a pod that some policy of a
direction chooses may do only what one of its rules allows, every other pod may do everything; a rule without peers
stands for all of them, one without ports for all ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.manifests.admission.documents import Document, Rendered, Workload, matches, namespace_of


@dataclass(frozen=True)
class Place:
    """One end of a connection: a pod, or something outside the manifests.

    Args:
        name: What the matrix calls it.
        namespace: Its namespace; empty for an address outside the cluster.
        namespace_labels: Labels of that namespace.
        labels: Labels of the pod.
        ports: Port, protocol and name of what it listens on.
        address: Stands for its IP address where rules have address blocks.
    """

    name: str
    namespace: str = ""
    namespace_labels: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: tuple[tuple[int, str, str], ...] = ()
    address: str = "10.244.7.7"


@dataclass(frozen=True, order=True)
class Connection:
    """`source` may connect to `target`."""

    source: str
    target: str
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Network:
    """The policies of an overlay."""

    rendered: Rendered

    @cached_property
    def policies(self) -> list[Document]:
        """All of them."""
        return self.rendered.of("NetworkPolicy")

    def of(self, workload: Workload) -> Place:
        """The pods of a workload."""
        ports = tuple(
            (int(port["containerPort"]), str(port.get("protocol", "TCP")), str(port.get("name", "")))
            for each in workload.containers
            if not each.begins or each.spec.get("restartPolicy") == "Always"
            for port in each.ports
        )
        labels = self.rendered.labels_of_namespace(workload.namespace)
        return Place(workload.name, workload.namespace, labels, workload.labels, ports)

    def open_connections(self, sources: Iterable[Place], targets: Sequence[Place]) -> set[Connection]:
        """Every connection that both sides allow, to ports that the targets declare."""
        return {
            Connection(source.name, target.name, number, protocol)
            for source in sources
            for target in targets
            for number, protocol, name in target.ports
            if self.allows("Egress", source, target, (number, protocol, name))
            and self.allows("Ingress", target, source, (number, protocol, name))
        }

    def allows(self, direction: str, pod: Place, peer: Place, port: tuple[int, str, str]) -> bool:
        """Whether the policies of one side allow a connection with a peer, at a port of the side that listens."""
        rules = list(self._rules(direction, pod))
        if not rules:
            return True
        key = "from" if direction == "Ingress" else "to"
        return any(
            rule is not None
            and (not rule.get(key) or any(_is(peer, each, pod.namespace) for each in rule[key]))
            and (not rule.get("ports") or any(_covers(each, port) for each in rule["ports"]))
            for rule in rules
        )

    def is_closed(self, direction: str, pod: Place) -> bool:
        """Whether some policy of the direction chooses the pod."""
        return bool(list(self._rules(direction, pod)))

    def _rules(self, direction: str, pod: Place) -> Iterator[Document | None]:
        """The rules that hold for a pod; None stands for a policy without any."""
        for policy in self.policies:
            spec = policy["spec"]
            chosen = namespace_of(policy) == pod.namespace and matches(spec.get("podSelector") or {}, pod.labels)
            if chosen and direction in types_of(spec):
                yield from spec.get(direction.lower()) or [None]


def types_of(spec: Document) -> list[str]:
    """Directions of a policy: those it names, else Ingress, and Egress where it has such rules."""
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _is(peer: Place, rule: Document, namespace: str) -> bool:
    if "ipBlock" in rule:
        address = ipaddress.ip_address(peer.address)
        block = rule["ipBlock"]
        return address in ipaddress.ip_network(block["cidr"], strict=False) and not any(
            address in ipaddress.ip_network(each, strict=False) for each in block.get("except") or []
        )
    if not peer.namespace:
        return False
    if rule.get("namespaceSelector") is None:
        inside = peer.namespace == namespace
    else:
        inside = matches(rule["namespaceSelector"], peer.namespace_labels)
    return inside and matches(rule.get("podSelector") or {}, peer.labels)


def _covers(rule: Document, port: tuple[int, str, str]) -> bool:
    number, protocol, name = port
    if rule.get("protocol", "TCP") != protocol:
        return False
    wanted: Any = rule.get("port")
    if wanted is None or wanted == name:
        return True
    return isinstance(wanted, int) and wanted <= number <= rule.get("endPort", wanted)
