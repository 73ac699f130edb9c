"""Training on three nodes that find each other by DNS, as pods of a StatefulSet do, and what becomes of it when one is
lost. Run by `test_cluster_of_three.py` in namespaces of its own. The tests follow each other on one cluster.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mage_platform.contracts import FailedCandidate, GoodCandidate, UseCase
from mage_platform.database import connect
from mage_platform.errors import H2OUnavailable
from mage_platform.features.training_set import training_set
from mage_platform.local.passwords import secrets_folder
from mage_platform.registry import model_versions
from mage_platform.settings import PROJECT, Settings
from mage_platform.training.h2o_connection import await_whole_cloud
from mage_platform.training.held_out import truth_of
from mage_platform.training.metrics import Scored, metrics_of
from mage_platform.training.regions import train_region
from mage_platform.training.registration import register_candidates
from serving import jvm
from serving.encoding import RowEncoder
from tests.cluster.kubernetes_network import SERVICE, Pod, address_of, cluster_dns
from tests.cluster.stateful_set import PODS, Cluster, at, long, plan_of, trained_while
from tests.h2o_requests import h2o_json

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PROBE = PROJECT / "k8s" / "images" / "h2o" / "whole_cloud_leader.sh"


@pytest.fixture(scope="module")
def cluster(network: None, database_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three pods that find each other."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(database_server, folder)
    with cluster.running, cluster_dns(folder, PODS):
        for number in PODS:
            cluster.start(number)
        yield cluster


def test_a_region_trained_on_three_nodes_has_the_mojo_that_was_evaluated(
    cluster: Cluster, settings: Settings, use_case: UseCase
) -> None:
    candidate = train_region(at(settings, SERVICE, nodes=3, wait=90), use_case, plan_of(settings, use_case))
    assert isinstance(candidate, GoodCandidate), candidate
    cloud = h2o_json(settings, "/3/Cloud", url=cluster.leader().url)
    assert {node["ip_port"] for node in cloud["nodes"]} == {f"{address_of(pod)}:54321" for pod in PODS}
    version = register_candidates(settings, use_case, [candidate]).versions[0]
    test = training_set(settings, use_case, "Bern", use_case.input_schema, version.window)["test"]
    jvm.start(heap_mib=128)
    mojo = jvm.Mojo(Path(candidate.mojo_path), Path(candidate.genmodel_path))
    encoder = RowEncoder(use_case.input_schema, mojo.names, mojo.domains)
    vectors = test.select(use_case.input_schema.names).to_pylist()
    rows = [encoder.encode({**each, "is_weekend": each["is_weekend"] == "true"}) for each in vectors]
    predicted = np.array([score[2] for score in mojo.slot(len(rows)).score(rows)])
    scored = metrics_of(Scored("binary", truth_of(test["_label"], "binary", ()), predicted))
    assert scored.model_dump(exclude={"kind"}) == pytest.approx(version.metrics.model_dump(exclude={"kind"}), rel=1e-9)


def test_only_the_leader_of_the_expected_number_of_nodes_is_trained_on(cluster: Cluster, settings: Settings) -> None:
    leader = cluster.leader()
    assert await_whole_cloud(at(settings, SERVICE, nodes=3, wait=1)) == leader.url
    other = next(pod for pod in cluster.pods.values() if pod is not leader)
    with pytest.raises(H2OUnavailable, match="only nodes that are not the leader answered"):
        await_whole_cloud(at(settings, address_of(other.number), nodes=3, wait=1))
    with pytest.raises(H2OUnavailable, match="it has 3 of 4 nodes, and is locked: no node can join any more"):
        await_whole_cloud(at(settings, SERVICE, nodes=4, wait=60))
    with pytest.raises(H2OUnavailable, match="it has 3 nodes, and 1 expected"):
        await_whole_cloud(at(settings, SERVICE, nodes=1, wait=60))


def test_the_probe_of_the_image_is_passed_by_the_leader_of_the_whole_cloud_alone(cluster: Cluster) -> None:
    def probed(pod: Pod, nodes: int) -> tuple[int, str]:
        command = ["nsenter", f"--target={pod.process.pid}", "--net", "bash", str(PROBE)]
        secrets = str(secrets_folder(cluster.settings))
        environment = {**os.environ, "H2O_NODE_EXPECTED_COUNT": str(nodes), "PLATFORM_SECRETS_FOLDER": secrets}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    leader = cluster.leader()
    for pod in cluster.pods.values():
        assert probed(pod, 3) == ((0, "") if pod is leader else (1, "not the leader"))
    assert probed(leader, 4) == (1, "the cloud has not 4 nodes")


def test_a_lost_node_is_noticed_before_h2o_notices_and_nothing_is_registered(
    cluster: Cluster, settings: Settings, use_case: UseCase
) -> None:
    victim = max(number for number, pod in cluster.pods.items() if pod is not cluster.leader())
    reached = at(settings, SERVICE, nodes=3)
    ended = trained_while(cluster.leader(), reached, long(use_case), cluster.pods[victim].kill)
    assert h2o_json(settings, "/3/Cloud", url=cluster.leader().url)["cloud_healthy"], "H2O knew it already"
    assert isinstance(ended, FailedCandidate)
    assert f"it has lost 1 of its 3 nodes ({address_of(victim)}:54321 silent for " in ended.reason
    assert "kubectl delete pod -l app.kubernetes.io/name=h2o" in ended.reason
    registration = register_candidates(settings, use_case, [ended])
    with connect(settings) as connection:
        assert model_versions(connection) == registration.versions == []
    assert not list(settings.runs_folder.rglob("*.zip"))
    with pytest.raises(H2OUnavailable, match=r"it has lost 1 of its 3 nodes"):
        await_whole_cloud(at(settings, SERVICE, nodes=3, wait=1))
