"""Pods that were given no address by DNS in time. Run by `test_cluster_of_three.py` in namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mage_platform.contracts import FailedCandidate, UseCase
from mage_platform.errors import H2OUnavailable
from mage_platform.settings import Settings
from mage_platform.training.h2o_connection import await_whole_cloud
from tests.cluster.kubernetes_network import SERVICE, address_of, cluster_dns
from tests.cluster.stateful_set import PODS, Cluster, at, is_leader, long, size_of, trained_while, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def split(network: None, database_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three pods that got no address from DNS before their time was up."""
    folder = tmp_path_factory.mktemp("split")
    cluster = Cluster(database_server, folder)
    with cluster.running:
        with cluster_dns(folder, []):
            for number in PODS:
                cluster.start(number, H2O_NODE_LOOKUP_TIMEOUT="3")
            until(
                lambda: [size_of(database_server, pod) for pod in cluster.pods.values()] == [1] * 3,
                "three clouds of one",
            )
        with cluster_dns(folder, PODS):
            yield cluster


def test_pods_that_found_no_address_in_dns_are_three_clouds_and_the_platform_refuses_them(
    split: Cluster, settings: Settings
) -> None:
    assert [is_leader(pod) for pod in split.pods.values()] == [True] * 3  # to Kubernetes all of them are ready
    with pytest.raises(H2OUnavailable) as refused:
        await_whole_cloud(at(settings, SERVICE, nodes=3, wait=1))
    assert f"http://{SERVICE}:54321 cannot train: it is split into 3 clouds in place of one" in str(refused.value)
    assert all(f"1 at {pod.url}" in str(refused.value) for pod in split.pods.values())
    with pytest.raises(H2OUnavailable, match="it has 1 of 3 nodes"):
        await_whole_cloud(at(settings, address_of(0), nodes=3, wait=1))


def test_a_branch_ends_with_a_reason_when_the_only_node_dies(
    split: Cluster, settings: Settings, use_case: UseCase
) -> None:
    alone = at(settings, address_of(0), nodes=1)
    ended = trained_while(split.pods[0], alone, long(use_case), split.pods[0].kill)
    assert isinstance(ended, FailedCandidate)
    assert "the H2O cloud at http://10.244.9.10:54321 broke while it trained: its leader is gone" in ended.reason
