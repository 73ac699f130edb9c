"""NetworkPolicies that are not applied, and doors that stand open."""

from typing import Any

from tests.manifests.faults.changes import Fault, NearMiss, add, drop, put, remove


def _policy(to: str, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": to}} if to else {}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "extra"},
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], **spec},
    }  # fmt: skip


def _from(name: str) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}]


FAULTS = (
    Fault(
        "a direction in small letters", put("NetworkPolicy/redis", "spec.policyTypes[0]", "ingress"),
        "policies_are_well_formed", ["NetworkPolicy/redis", "'ingress'", "Ingress or Egress"],
    ),
    Fault(
        "a protocol that there is not", put("NetworkPolicy/redis", "spec.ingress[0].ports[0].protocol", "HTTP"),
        "policies_are_well_formed", ["NetworkPolicy/redis", "'HTTP'"],
    ),
    Fault(
        "a port above 65535", put("NetworkPolicy/redis", "spec.ingress[0].ports[0].port", 70000),
        "policies_are_well_formed", ["NetworkPolicy/redis", "70000"],
    ),
    Fault(
        "a range that ends before it begins", put("NetworkPolicy/redis", "spec.ingress[0].ports[0].endPort", 6000),
        "policies_are_well_formed", ["NetworkPolicy/redis", "endPort", "6000"],
    ),
    Fault(
        "a port's name that the pods do not have", put("NetworkPolicy/redis", "spec.ingress[0].ports[0].port", "cache"),
        "policies_are_well_formed", ["NetworkPolicy/redis", "'cache'"],
    ),
    Fault(
        "rules of a direction that the policy does not name",
        put("NetworkPolicy/sidecar", "spec.policyTypes", ["Ingress"]),
        "policies_are_well_formed", ["NetworkPolicy/sidecar", "never applied"],
    ),
    Fault(
        "an address that is no block",
        add(_policy("sidecar", ingress=[{"from": [{"ipBlock": {"cidr": "10.1.2.3/8"}}], "ports": [{"port": 8000}]}])),
        "policies_are_well_formed", ["NetworkPolicy/extra", "10.1.2.3/8"],
    ),
    Fault(
        "an exception outside of its block",
        add(_policy("sidecar", ingress=[{
            "from": [{"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.2.0.0/24"]}}], "ports": [{"port": 8000}],
        }])),
        "policies_are_well_formed", ["10.2.0.0/24", "not within"],
    ),
    Fault(
        "nothing is denied by default", remove("NetworkPolicy/default-deny"),
        "namespaces_deny_by_default", ["Deployment/sidecar", "denies Ingress"],
    ),
    Fault(
        "nothing is denied by default on the way out",
        put("NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"]),
        "namespaces_deny_by_default", ["Deployment/sidecar", "denies Egress"],
    ),
    Fault(
        "a default that lets all pods of the namespace in",
        put("NetworkPolicy/default-deny", "spec.ingress", [{"from": [{"podSelector": {}}]}]),
        "namespaces_deny_by_default", ["denies Ingress"],
        frozenset({"h2o_is_reached_by_training_only", "postgres_is_reached_through_its_pooler"}),
    ),
    Fault(
        "the prediction API for everybody", drop("NetworkPolicy/sidecar", "spec.ingress[0].from"),
        "nothing_is_open_to_everybody", ["NetworkPolicy/sidecar", "spec.ingress[0].from", "every peer"],
    ),
    Fault(
        "the prediction API for every namespace",
        put("NetworkPolicy/sidecar", "spec.ingress[0].from[0]", {"namespaceSelector": {}}),
        "nothing_is_open_to_everybody", ["NetworkPolicy/sidecar", "namespaceSelector"],
    ),
    Fault(
        "the prediction API for every address",
        put("NetworkPolicy/sidecar", "spec.ingress[0].from[0]", {"ipBlock": {"cidr": "0.0.0.0/0"}}),
        "nothing_is_open_to_everybody", ["0.0.0.0/0"],
    ),
    Fault(
        "a way out to everywhere", put("NetworkPolicy/sidecar", "spec.egress[+]", {"ports": [{"port": 443}]}),
        "nothing_is_open_to_everybody", ["NetworkPolicy/sidecar", "spec.egress[2].to"],
    ),
    Fault(
        "H2O for the prediction API",
        add(_policy("h2o", ingress=[{"from": _from("sidecar"), "ports": [{"port": 54321}]}])),
        "h2o_is_reached_by_training_only", ["StatefulSet/h2o", "sidecar -> h2o:54321"],
    ),
    Fault(
        "H2O for all pods of the namespace", put("NetworkPolicy/h2o", "spec.ingress[1].from[0]", {"podSelector": {}}),
        "h2o_is_reached_by_training_only", ["StatefulSet/h2o", "a pod without labels"],
    ),
    Fault(
        "PostgreSQL for the prediction API, past PgBouncer",
        put("NetworkPolicy/postgres", "spec.ingress[0].from[+]", _from("sidecar")[0]),
        "postgres_is_reached_through_its_pooler", ["StatefulSet/postgres", "sidecar -> postgres:5432"],
    ),
    Fault(
        "PostgreSQL for Mage, past PgBouncer",
        put("NetworkPolicy/postgres", "spec.ingress[0].from[+]", _from("mage")[0]),
        "postgres_is_reached_through_its_pooler", ["mage -> postgres:5432"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss(
        "a port by its name, and a range",
        add(_policy("redis", ingress=[
            {"from": _from("sidecar"), "ports": [{"port": "redis"}, {"port": 7000, "endPort": 7009}]},
        ])),
    ),
    NearMiss(
        "an address block of the company",
        add(_policy("sidecar", ingress=[{
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.0/16"]}}], "ports": [{"port": 8000}],
        }])),
    ),
    NearMiss(
        "every pod of a namespace that is named",
        add(_policy("sidecar", ingress=[{
            "from": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}, "podSelector": {}},
            ],
            "ports": [{"port": 8000}],
        }])),
    ),
    NearMiss(
        "a second policy that denies all", add(_policy("", policyTypes=["Ingress"], ingress=[])),
    ),
    NearMiss("a policy without policyTypes is one for Ingress", drop("NetworkPolicy/redis", "spec.policyTypes")),
)  # fmt: skip
