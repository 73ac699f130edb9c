"""The pods of a StatefulSet of H2O, and a branch of the fan-out that trains on them while something happens."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from mage_platform.contracts import RegionPlan, UseCase
from mage_platform.settings import PROJECT, Settings
from mage_platform.training.plan import plan_regions
from mage_platform.training.regions import train_region
from tests.cluster.kubernetes_network import SERVICE, Pod, address_of, h2o_pod

PODS = range(3)
NAMESPACE = SERVICE.split(".")[1]


def _variables() -> dict[str, str]:
    """The variables of the container in the StatefulSet that ships, as Kubernetes makes them in the namespace here."""
    [manifest] = yaml.safe_load_all((PROJECT / "k8s/base/h2o/stateful_set.yaml").read_text(encoding="utf-8"))
    declared = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}} in declared
    found = {"POD_NAMESPACE": NAMESPACE}
    for each in declared:
        if "value" in each:
            found[each["name"]] = each["value"].replace("$(POD_NAMESPACE)", NAMESPACE)
    assert found["H2O_KUBERNETES_SERVICE_DNS"] == SERVICE
    assert int(found["H2O_NODE_EXPECTED_COUNT"]) == manifest["spec"]["replicas"] == len(PODS)
    return found


CONTAINER = {**_variables(), "H2O_NODE_LOOKUP_TIMEOUT": "60"}
"""The same, but for how long nodes are looked for: a test does not wait so long."""


class Cluster:
    """The pods of the StatefulSet, by number."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.pods: dict[int, Pod] = {}
        self.running = contextlib.ExitStack()

    def start(self, number: int, **container: str) -> None:
        """Start a pod, or start it again at its address."""
        pod = h2o_pod(self.settings, self.folder, number, {**CONTAINER, **container})
        self.pods[number] = self.running.enter_context(pod)

    def leader(self) -> Pod:
        """The only pod that answers; as the leader's Service finds it, by H2O's own probe."""
        ready = [pod for pod in self.pods.values() if is_leader(pod)]
        assert len(ready) == 1
        return ready[0]


def at(settings: Settings, host: str, *, nodes: int, wait: float = 60) -> Settings:
    """The same settings, with this H2O cloud."""
    changed = {"host": host, "port": 54321, "nodes": nodes, "connect_timeout_seconds": wait}
    return settings.model_copy(update={"h2o": settings.h2o.model_copy(update=changed)})


def plan_of(settings: Settings, use_case: UseCase) -> RegionPlan:
    return plan_regions(settings, use_case, run=f"test_{time.monotonic_ns()}", regions=["Bern"])[0]


def long(use_case: UseCase) -> UseCase:
    """The same use case with more models than anybody waits for."""
    training = use_case.training.model_copy(update={"maximum_models": 500, "stopping_rounds": 0})
    return use_case.model_copy(update={"training": training})


def trained_while(leader: Pod, settings: Settings, use_case: UseCase, happens: Callable[[], None]) -> Any:
    """What a branch ends with when something happens to the cloud in the middle of its AutoML."""
    plan, ended = plan_of(settings, use_case), []
    branch = threading.Thread(target=lambda: ended.append(train_region(settings, use_case, plan)), daemon=True)
    branch.start()
    until(lambda: bool(ended) or has_a_model(leader), "a first model")
    assert not ended, ended
    happens()
    branch.join(150)
    assert not branch.is_alive(), "the branch hangs"
    return ended[0]


def has_a_model(leader: Pod) -> bool:
    return bool(httpx.get(f"{leader.url}/3/Models", timeout=10).json()["models"])


def is_leader(pod: Pod) -> bool:
    """H2O's own readiness probe."""
    try:
        return httpx.get(f"http://{address_of(pod.number)}:8081/kubernetes/isLeaderNode", timeout=5).is_success
    except httpx.TransportError:
        return False


def size_of(pod: Pod) -> int | None:
    """Nodes of the pod's cloud; None while it does not say."""
    try:
        return int(httpx.get(f"{pod.url}/3/Cloud", timeout=5).json()["cloud_size"])
    except (httpx.TransportError, ValueError):
        return None


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"there is never {what}"
        time.sleep(0.2)
