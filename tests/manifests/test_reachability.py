"""How NetworkPolicies add up, on small examples whose answers follow from Kubernetes' own description."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.admission import Rendered
from tests.manifests.admission.reachability import Connection, Network, Place

LABELS = {"kubernetes.io/metadata.name": "ours"}
CLIENT = Place("client", "ours", LABELS, {"app": "client"})
SERVER = Place("server", "ours", LABELS, {"app": "server"}, ((80, "TCP", "http"), (53, "UDP", "dns")))
STRANGER = Place("stranger", "theirs", {"kubernetes.io/metadata.name": "theirs"}, {"app": "client"})
OUTSIDE = Place("outside", address="198.51.100.7")
DENY: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
ALL = {Connection("client", "server", 80), Connection("client", "server", 53, "UDP")}


def reached(*policies: dict[str, Any], source: Place = CLIENT) -> set[Connection]:
    documents = [
        {"kind": "NetworkPolicy", "metadata": {"name": str(number), "namespace": "ours"}, "spec": spec}
        for number, spec in enumerate(policies)
    ]
    return Network(Rendered(documents)).open_connections([source], [SERVER])


def to_server(*peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {"from": list(peers), **more}
    return {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"], "ingress": [rule]}


def from_client(**rule: Any) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": [rule]}


ANY_CLIENT = {"podSelector": {"matchLabels": {"app": "client"}}}


def test_without_policies_everybody_reaches_everybody() -> None:
    assert reached() == ALL


def test_a_policy_without_rules_shuts_the_pods_it_chooses() -> None:
    assert reached(DENY) == set()


def test_both_sides_must_allow_a_connection() -> None:
    into, out = to_server(ANY_CLIENT), from_client(to=[{"podSelector": {}}])
    assert reached(DENY, into) == set()
    assert reached(DENY, out) == set()
    assert reached(DENY, into, out) == ALL


def test_policies_add_up() -> None:
    tcp, udp = ({"ports": [{"port": number, "protocol": name}]} for number, name in ((80, "TCP"), (53, "UDP")))
    assert reached(to_server(ANY_CLIENT, **tcp)) == {Connection("client", "server", 80)}
    assert reached(to_server(ANY_CLIENT, **tcp), to_server(ANY_CLIENT, **udp)) == ALL


def test_a_pod_selector_alone_stays_in_the_namespace_of_the_policy() -> None:
    assert reached(to_server(ANY_CLIENT), source=STRANGER) == set()


def test_a_namespace_and_a_pod_selector_of_one_peer_must_both_fit_and_two_peers_need_not() -> None:
    theirs = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "theirs"}}}
    nobody = {"podSelector": {"matchLabels": {"app": "nobody"}}}
    assert reached(to_server({**theirs, **nobody}), source=STRANGER) == set()
    assert len(reached(to_server(theirs, nobody), source=STRANGER)) == 2


def test_a_rule_without_peers_is_for_all_of_them() -> None:
    assert len(reached(to_server(), source=OUTSIDE)) == 2


@pytest.mark.parametrize(
    ("port", "open_ports"),
    [
        ({"port": "http"}, {80}),
        ({"port": 70, "endPort": 90}, {80}),
        ({"port": 81, "endPort": 90}, set()),
        ({"port": 80, "protocol": "UDP"}, set()),
        ({"protocol": "UDP"}, {53}),
    ],
)
def test_ports_by_name_by_range_and_by_protocol(port: dict[str, Any], open_ports: set[int]) -> None:
    assert {each.port for each in reached(to_server(ANY_CLIENT, ports=[port]))} == open_ports


def test_an_address_block_and_its_exceptions() -> None:
    block = {"cidr": "198.51.100.0/24"}
    assert len(reached(to_server({"ipBlock": block}), source=OUTSIDE)) == 2
    assert reached(to_server({"ipBlock": {**block, "except": ["198.51.100.0/28"]}}), source=OUTSIDE) == set()


def test_the_directions_a_policy_does_not_name_follow_from_its_rules() -> None:
    both = {"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}
    assert reached(both) == set(), "without policyTypes it is for Ingress too, and has no rule for it"
