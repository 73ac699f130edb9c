"""Who reaches whom, against a table that was written from what the platform does, not from its policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.manifests.admission import Rendered, Workload
from tests.manifests.admission.reachability import Network, Place
from tests.manifests.faults import changed
from tests.manifests.faults.changes import add, remove
from tests.manifests.overlays import OVERLAYS

pytestmark = pytest.mark.integration

EVERYBODY = {"postgres", "pgbouncer", "redis", "h2o", "mage", "sidecar", "database", "backup"}
TRAINING = {"mage", "mage-branch"}
WANTED = {
    "postgres:5432/TCP": {"pgbouncer", "database", "backup"},
    "pgbouncer:6432/TCP": {"sidecar", "database", *TRAINING},
    "redis:6379/TCP": {"sidecar", *TRAINING},
    "h2o:54321/TCP": {"h2o", *TRAINING},
    "h2o:54322/TCP": {"h2o"},
    "h2o:54322/UDP": {"h2o"},
    "sidecar:8000/TCP": {"ingress controller", "prometheus"},
    "dns:53/TCP": {*EVERYBODY, "mage-branch"},
    "dns:53/UDP": {*EVERYBODY, "mage-branch"},
    # The address of the API server differs from cluster to cluster, so the way there is open to any address.
    "api server:443/TCP": {"mage"},
    "internet:443/TCP": {"mage"},
}
"""Where a connection ends, and who may open it. What is not here is shut, Mage's own pages among it."""
ONLY_WITH_JOBS = {"mage-branch", "api server:443/TCP", "internet:443/TCP"}
"""Of the overlays that run branches as jobs."""


def pod_elsewhere(name: str, namespace: str, ports: tuple[tuple[int, str, str], ...] = (), **labels: str) -> Place:
    return Place(name, namespace, {"kubernetes.io/metadata.name": namespace}, labels, ports)


DNS = replace(
    pod_elsewhere("dns", "kube-system", ((53, "TCP", "dns-tcp"), (53, "UDP", "dns"))), labels={"k8s-app": "kube-dns"}
)
OUTSIDE = [
    DNS,
    Place("api server", ports=((443, "TCP", ""),), address="10.96.0.1"),
    Place("internet", ports=((443, "TCP", ""),), address="198.51.100.7"),
]


def reached(rendered: Rendered, ingress: str) -> dict[str, set[str]]:
    """Every end of a connection that somebody may open, and who."""
    network = Network(rendered)
    inside = [replace(network.of(each), name=app(each)) for each in rendered.workloads]
    [namespace] = {each.namespace for each in rendered.workloads}
    strangers = [
        pod_elsewhere("ingress controller", ingress),
        pod_elsewhere("prometheus", "monitoring"),
        pod_elsewhere("another namespace", "elsewhere"),
        pod_elsewhere("a pod without labels", namespace),
        replace(pod_elsewhere("a namesake elsewhere", "elsewhere"), labels={"app.kubernetes.io/name": "mage"}),
        *OUTSIDE,
    ]
    ends: dict[str, set[str]] = {}
    for source in (*inside, *strangers):
        for each in network.open_connections([source], [*inside, *(place for place in OUTSIDE if source in inside)]):
            ends.setdefault(f"{each.target}:{each.port}/{each.protocol}", set()).add(source.name)
    return ends


def app(workload: Workload) -> str:
    return workload.labels.get("app.kubernetes.io/name") or workload.labels["app"]


def ingress_namespace(rendered: Rendered) -> str:
    """The one thing read from the policies: the namespace of the ingress controller is the cluster's own affair."""
    policy = rendered.find("NetworkPolicy", "sidecar")
    assert policy is not None
    selector = policy["spec"]["ingress"][0]["from"][0]["namespaceSelector"]
    return str(selector["matchLabels"]["kubernetes.io/metadata.name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exactly_the_wanted_connections_are_open(rendered: Mapping[str, Rendered], overlay: str) -> None:
    jobs = bool(rendered[overlay].started_later)
    wanted = {
        end: {name for name in sources if jobs or name not in ONLY_WITH_JOBS}
        for end, sources in WANTED.items()
        if jobs or end not in ONLY_WITH_JOBS
    }
    assert {app(each) for each in rendered[overlay].workloads} == EVERYBODY | ({"mage-branch"} if jobs else set())
    assert reached(rendered[overlay], ingress_namespace(rendered[overlay])) == wanted


def test_a_door_that_opens_or_shuts_changes_the_table(production: Rendered) -> None:
    """The table is no echo: one policy more or less is seen."""
    ingress = ingress_namespace(production)
    opened = add({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "extra"},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "mage"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ingress}}}]}],
        },
    })  # fmt: skip
    with_door = reached(Rendered(changed(production.documents, opened), production.started_later), ingress)
    assert with_door == {**WANTED, "mage:6789/TCP": {"ingress controller"}}
    without = reached(
        Rendered(changed(production.documents, remove("NetworkPolicy/redis")), production.started_later), ingress
    )
    assert without["redis:6379/TCP"] == {"mage-branch"}, "which a policy of its own admits"
