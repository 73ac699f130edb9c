"""NetworkPolicies: written so that they are applied, nothing open by default, and the two stores kept apart."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tests.manifests.admission.documents import Document, Rendered, namespace_of
from tests.manifests.admission.findings import Finding, check, found
from tests.manifests.admission.reachability import Network, Place, types_of

TRAINS = {"mage", "mage-branch"}
"""Pods that train on H2O, by the label app.kubernetes.io/name or app."""
KEEPS_POSTGRES = {"pgbouncer", "database", "backup"}
"""Pods that may reach PostgreSQL itself: the pooler, provisioning, and what saves it."""
_DIRECTIONS = {"Ingress": "from", "Egress": "to"}


@check
def policies_are_well_formed(rendered: Rendered) -> Iterator[Finding]:
    """Directions, protocols, port numbers and address blocks that Kubernetes knows."""
    for policy in rendered.of("NetworkPolicy"):
        types = types_of(policy["spec"])
        for each in set(types) - set(_DIRECTIONS):
            yield found(policy, "spec.policyTypes", each, "must be Ingress or Egress")
        for direction, key in _DIRECTIONS.items():
            rules = policy["spec"].get(direction.lower())
            if rules and direction not in types:
                yield found(policy, "spec.policyTypes", types, f"without {direction} these rules are never applied")
            for number, rule in enumerate(rules or []):
                where = f"spec.{direction.lower()}[{number}]"
                for port in rule.get("ports") or []:
                    yield from _port(policy, f"{where}.ports", port, rendered if direction == "Ingress" else None)
                for peer in rule.get(key) or []:
                    yield from _peer(policy, f"{where}.{key}", peer)


@check
def namespaces_deny_by_default(rendered: Rendered) -> Iterator[Finding]:
    """A pod that no other policy names can neither be reached nor reach anything."""
    for workload in rendered.workloads:
        for direction in _DIRECTIONS:
            if not any(
                namespace_of(each) == workload.namespace
                and not each["spec"].get("podSelector")
                and direction in types_of(each["spec"])
                and not each["spec"].get(direction.lower())
                for each in rendered.of("NetworkPolicy")
            ):
                yield found(
                    workload, "metadata.namespace", workload.namespace,
                    f"no policy there denies {direction} to all pods: podSelector {{}} and no rules",
                )  # fmt: skip


@check
def nothing_is_open_to_everybody(rendered: Rendered) -> Iterator[Finding]:
    """No rule admits every peer: without `from`, by an empty namespace selector, or by an address block of all."""
    for policy in rendered.of("NetworkPolicy"):
        for direction, key in _DIRECTIONS.items():
            for number, rule in enumerate(policy["spec"].get(direction.lower()) or []):
                where = f"spec.{direction.lower()}[{number}].{key}"
                if not rule.get(key):
                    yield found(policy, where, rule.get(key), "stands for every peer there is: name some")
                for peer in rule.get(key) or []:
                    block = (peer.get("ipBlock") or {}).get("cidr", "")
                    everybody = _is_everywhere(block) and (direction == "Ingress" or not rule.get("ports"))
                    every_namespace = peer.get("namespaceSelector") == {} and not peer.get("podSelector")
                    if everybody or every_namespace:
                        yield found(policy, where, peer, "admits everybody: name the pods or the address block")


@check
def h2o_is_reached_by_training_only(rendered: Rendered) -> Iterator[Finding]:
    """H2O's REST port runs what it is told: the nodes themselves, the Mage server and its branches come in."""
    yield from _reached_only_by(rendered, "h2o", {"h2o", *TRAINS})


@check
def postgres_is_reached_through_its_pooler(rendered: Rendered) -> Iterator[Finding]:
    """PgBouncer is the one way in; beside it the jobs that provision and back up."""
    yield from _reached_only_by(rendered, "postgres", KEEPS_POSTGRES)


def _reached_only_by(rendered: Rendered, target: str, clients: set[str]) -> Iterator[Finding]:
    network = Network(rendered)
    for workload in rendered.workloads:
        if workload.labels.get("app.kubernetes.io/name") != target:
            continue
        place = network.of(workload)
        sources = [network.of(each) for each in rendered.workloads if _app(each.labels) not in clients]
        sources.append(Place("a pod without labels", workload.namespace, place.namespace_labels))
        sources.append(Place("another namespace", "elsewhere", {"kubernetes.io/metadata.name": "elsewhere"}))
        for source in sources:
            for port in place.ports:
                # what the source's own policies say does not count: this side must be shut by itself
                if source.name != workload.name and network.allows("Ingress", place, source, port):
                    yield found(
                        workload, "NetworkPolicy ingress", f"{source.name} -> {workload.name}:{port[0]}/{port[1]}",
                        "nobody but its own clients may come in",
                    )  # fmt: skip


def _app(labels: dict[str, str]) -> str:
    return labels.get("app.kubernetes.io/name") or labels.get("app", "")


def _port(policy: Document, where: str, port: Document, rendered: Rendered | None) -> Iterator[Finding]:
    number, protocol, last = port.get("port"), port.get("protocol", "TCP"), port.get("endPort")
    if protocol not in ("TCP", "UDP", "SCTP"):
        yield found(policy, f"{where}.protocol", protocol, "must be TCP, UDP or SCTP")
    if isinstance(number, int) and not 1 <= number <= 65535:
        yield found(policy, f"{where}.port", number, "must be from 1 to 65535")
    if last is not None and not (isinstance(number, int) and isinstance(last, int) and number <= last <= 65535):
        yield found(policy, f"{where}.endPort", last, "must be a number from port to 65535")
    if isinstance(number, str) and rendered is not None:
        chosen = rendered.selected(policy["spec"].get("podSelector") or {}, namespace_of(policy))
        names = {each.get("name") for w in chosen for c in w.containers for each in c.ports}
        if number not in names:
            yield found(policy, f"{where}.port", number, f"the chosen pods have no port of this name, only {names}")


def _peer(policy: Document, where: str, peer: Document) -> Iterator[Finding]:
    if not peer:
        yield found(policy, where, peer, "an empty peer: give ipBlock, podSelector or namespaceSelector")
    block = peer.get("ipBlock")
    if block is None:
        return
    if len(peer) > 1:
        yield found(policy, where, peer, "ipBlock stands alone")
    try:
        whole = ipaddress.ip_network(block["cidr"])
        outside = [each for each in block.get("except") or [] if not ipaddress.ip_network(each).subnet_of(whole)]  # type: ignore[arg-type]
    except (ValueError, TypeError):
        yield found(policy, f"{where}.ipBlock", block, "not an address block such as 10.1.0.0/16")
    else:
        if outside:
            yield found(policy, f"{where}.ipBlock.except", outside, f"not within {block['cidr']}")


def _is_everywhere(block: str) -> bool:
    return block in ("0.0.0.0/0", "::/0")
