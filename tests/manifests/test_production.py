"""What the overlay for production promises: each part as the registry of decisions and its own measurements want it."""

from __future__ import annotations

import configparser
import importlib.util
import re
from typing import Any

import click
import pytest

from mage_platform.command_line.program import program
from mage_platform.settings import PROJECT
from tests.manifests.admission import Document, Rendered, Workload
from tests.manifests.admission.quantities import amount
from tests.manifests.faults.changes import one

pytestmark = pytest.mark.integration

MANDATED = {
    "listen_addr": "0.0.0.0", "listen_port": "6432", "auth_type": "scram-sha-256", "pool_mode": "transaction",
    "max_client_conn": "1000", "default_pool_size": "20", "reserve_pool_size": "5",
}  # fmt: skip
"""pgbouncer.ini of the technology decision registry."""
READS = {
    "postgres-superuser": {"postgres", "database", "backup"},
    "pgbouncer": {"pgbouncer", "database"},
    "platform-database": {"database", "mage", "mage-branch", "sidecar"},
    "mage": {"database", "mage", "mage-branch"},
    "signing": {"mage", "mage-branch"},
    "verification-keys": {"mage", "mage-branch", "sidecar"},
    "api-keys": {"sidecar"},
    "redis": {"redis", "mage", "mage-branch", "sidecar"},
    "h2o": {"h2o", "mage", "mage-branch"},
}
"""Which pods need which Secret, and no other."""


def workload(rendered: Rendered, name: str) -> Workload:
    [found] = [each for each in rendered.workloads if each.name == name]
    return found


def container(rendered: Rendered, name: str) -> Document:
    return dict(workload(rendered, name).pod["containers"][0])


def configuration(rendered: Rendered, name: str, key: str) -> str:
    return str(one(rendered.documents, f"ConfigMap/{name}")["data"][key])


def app(each: Workload) -> str:
    return each.labels.get("app.kubernetes.io/name") or each.labels["app"]


def test_h2o_is_a_cluster_of_three_that_finds_itself(production: Rendered) -> None:
    h2o = workload(production, "h2o")
    spec = h2o.document["spec"]
    assert (h2o.kind, spec["replicas"], spec["podManagementPolicy"]) == ("StatefulSet", 3, "Parallel")
    nodes, leader = (
        one(production.documents, "Service/h2o")["spec"],
        one(production.documents, "Service/h2o-leader")["spec"],
    )
    assert (nodes["clusterIP"], nodes["publishNotReadyAddresses"]) == ("None", True)
    assert not leader.get("publishNotReadyAddresses") and leader.get("clusterIP") != "None"
    probe = container(production, "h2o")
    assert probe["readinessProbe"]["exec"]["command"] == ["/app/whole_cloud_leader.sh"], "a leader of one is ready else"
    assert "tcpSocket" in probe["livenessProbe"]
    assert one(production.documents, "PodDisruptionBudget/h2o")["spec"]["maxUnavailable"] == 0


def test_h2o_states_its_heap_asks_for_a_password_and_gets_what_it_asks_for(production: Rendered) -> None:
    h2o = container(production, "h2o")
    command = [*h2o.get("command", []), *h2o.get("args", [])]
    assert any(re.fullmatch(r"-XX:MaxRAMPercentage=(70(\.0+)?|[56]\d(\.\d+)?)|-Xmx\d+[mg]", each) for each in command)
    assert "-hash_login" in command
    assert command[command.index("-login_conf") + 1] == "/run/secrets/h2o/realm.properties"
    assert h2o["resources"]["requests"]["memory"] == h2o["resources"]["limits"]["memory"]


def test_pgbouncer_is_there_twice_and_as_mandated(production: Rendered) -> None:
    assert workload(production, "pgbouncer").document["spec"]["replicas"] >= 2
    ini = configparser.ConfigParser()
    ini.read_string(configuration(production, "pgbouncer", "pgbouncer.ini"))
    assert {name: ini["pgbouncer"][name] for name in MANDATED} == MANDATED
    for database in ("features", "platform", "mage"):
        assert "host=postgres port=5432" in ini["databases"][database]
    mounts = {each["mountPath"] for each in container(production, "pgbouncer")["volumeMounts"]}
    assert "/etc/pgbouncer" in mounts


def test_postgres_has_room_for_every_connection_of_the_poolers(production: Rendered) -> None:
    """Each pooler opens, for each database, its pool and the reserve; some connections are for people and backups."""
    ini = configparser.ConfigParser()
    ini.read_string(configuration(production, "pgbouncer", "pgbouncer.ini"))
    pool, reserve = int(MANDATED["default_pool_size"]), int(MANDATED["reserve_pool_size"])
    pools = [
        int(found.group(1)) if (found := re.search(r"pool_size=(\d+)", address)) else pool
        for address in ini["databases"].values()
    ]
    poolers = workload(production, "pgbouncer").document["spec"]["replicas"]
    settings = dict(
        re.findall(r"(?m)^(\w+) *= *'?([^'\n]*)'?", configuration(production, "postgres", "postgresql.conf"))
    )
    assert int(settings["max_connections"]) >= poolers * sum(each + reserve for each in pools) + 5
    limit = amount(container(production, "postgres")["resources"]["limits"]["memory"])
    buffers = re.fullmatch(r"(\d+)GB", settings["shared_buffers"])
    assert limit is not None and buffers is not None
    assert int(buffers.group(1)) * 1024**3 <= limit * 2 // 5, "PostgreSQL's manual: at most 40 % of the memory"


def test_postgres_keeps_its_data_and_is_saved_every_night(production: Rendered) -> None:
    claims = workload(production, "postgres").document["spec"]["volumeClaimTemplates"]
    assert [each["metadata"]["name"] for each in claims] == ["data"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", one(production.documents, "CronJob/backup")["spec"]["schedule"])


def test_the_cache_stays_within_its_memory(production: Rendered) -> None:
    said = configuration(production, "redis", "redis.conf")
    most = re.search(r"(?m)^maxmemory (\d+)mb$", said)
    limit = amount(container(production, "redis")["resources"]["limits"]["memory"])
    assert most is not None and limit is not None
    assert int(most.group(1)) * 1024**2 <= limit * 4 // 5, "the rest is for connections and for what Redis itself needs"
    assert re.search(r"(?m)^maxmemory-policy allkeys-l[rf]u$", said)


def test_the_prediction_api_grows_with_its_load_and_is_updated_without_a_gap(production: Rendered) -> None:
    scaler = one(production.documents, "HorizontalPodAutoscaler/sidecar")["spec"]
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert [each["resource"]["name"] for each in scaler["metrics"]] == ["cpu"]
    sidecar = workload(production, "sidecar")
    assert sidecar.document["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert one(production.documents, "PodDisruptionBudget/sidecar")
    spread = {each["topologyKey"] for each in sidecar.pod["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    probes = {kind: container(production, "sidecar")[kind]["httpGet"]["path"] for kind in (
        "startupProbe", "livenessProbe", "readinessProbe",
    )}  # fmt: skip
    assert probes == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }


def test_a_pod_that_ends_lets_its_requests_end_first(production: Rendered) -> None:
    for name in ("sidecar", "pgbouncer"):
        stop = container(production, name)["lifecycle"]["preStop"]["exec"]["command"]
        assert stop[0] == "sleep"
        assert int(stop[1]) < workload(production, name).pod["terminationGracePeriodSeconds"]


def test_tables_are_made_before_mage_starts(production: Rendered) -> None:
    job = workload(production, "database")
    assert [_asked(each.spec)[:3] for each in job.containers] == [
        ["mage-platform", "database", "provision"], ["mage-platform", "database", "migrate"],
    ]  # fmt: skip
    [waiting] = workload(production, "mage").pod["initContainers"]
    assert _asked(waiting)[:4] == ["mage-platform", "database", "status", "--wait"]


def test_the_commands_of_the_platform_that_pods_run_exist(production: Rendered) -> None:
    """Each as the command line reads it, with its options."""
    asked = [_asked(each.spec) for one_workload in production.workloads for each in one_workload.containers]
    ours = [words for words in asked if words[:1] == ["mage-platform"]]
    assert len(ours) >= 3
    for words in ours:
        _parse(words[1:])
    with pytest.raises(click.UsageError, match="--wiat"):
        _parse(["database", "status", "--wiat", "3"])


def test_the_modules_of_python_that_pods_run_exist(production: Rendered) -> None:
    asked = [_asked(each.spec) for one_workload in production.workloads for each in one_workload.containers]
    modules = {words[words.index("-m") + 1] for words in asked if "-m" in words and "python" in words}
    assert modules == {"serving", "mage_platform.orchestration.mage_server"}
    assert not [each for each in modules if importlib.util.find_spec(each) is None]


def test_only_one_container_of_the_job_knows_the_superuser(production: Rendered) -> None:
    job = workload(production, "database")
    knows = {
        name
        for name, volume in job.volumes.items()
        if any(each.startswith("postgres-superuser") for each in _secrets(volume))
    }
    mounting = [each.name for each in job.containers if knows & {m["name"] for m in each.spec["volumeMounts"]}]
    assert mounting == ["provision"]


def test_a_pod_gets_the_secrets_that_it_needs_and_no_others(production: Rendered) -> None:
    readers: dict[str, set[str]] = {}
    for each in production.workloads:
        for volume in each.volumes.values():
            for secret in _secrets(volume):
                readers.setdefault(re.sub(r"-[2-9bcdfghkmt]{10}$", "", secret), set()).add(app(each))
    assert readers == READS


def test_only_the_prediction_api_can_be_seen_from_outside(production: Rendered) -> None:
    assert not [each for each in production.of("Service") if each["spec"].get("type", "ClusterIP") != "ClusterIP"]
    [ingress] = production.of("Ingress")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {each["backend"]["service"]["name"] for each in paths} == {"sidecar"}
    assert {(each["path"], each["pathType"]) for each in paths} >= {("/v1", "Prefix"), ("/v2", "Prefix")}
    for each in paths:
        shown = each["path"] == "/metrics" or (each["pathType"] == "Prefix" and "/metrics".startswith(each["path"]))
        assert not shown, f"{each['path']} shows /metrics to everybody"


def test_the_namespace_refuses_pods_that_are_not_restricted(production: Rendered) -> None:
    [namespace] = production.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_branches_train_in_jobs_that_share_the_state_of_the_server(production: Rendered) -> None:
    assert "ReadWriteMany" in one(production.documents, "PersistentVolumeClaim/mage-state")["spec"]["accessModes"]
    [job] = production.started_later
    [branch] = job["spec"]["template"]["spec"]["containers"]
    assert branch["command"][0] == "/app/run_app.sh"
    mounted = {each["mountPath"] for each in branch["volumeMounts"]}
    assert {"/state", "/run/secrets/platform", "/tmp"} <= mounted
    assert branch["image"] == container(production, "mage")["image"]


def test_the_dashboard_that_ships_is_brought_as_it_is(production: Rendered) -> None:
    [dashboard] = [
        each for each in production.of("ConfigMap") if "grafana_dashboard" in each["metadata"].get("labels", {})
    ]
    [file] = PROJECT.glob("k8s/**/sidecar.json")
    assert list(dashboard["data"].values()) == [file.read_text()]


def _asked(spec: Document) -> list[str]:
    return [str(each) for each in (*spec.get("command", []), *spec.get("args", []))]


def _parse(words: list[str]) -> None:
    """Read a command with its options, without running it."""
    command: click.Command = program
    context = click.Context(program, info_name="mage-platform")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(command.name, words, parent=context.parent)


def _secrets(volume: dict[str, Any]) -> set[str]:
    sources = [volume, *(volume.get("projected") or {}).get("sources", [])]
    return {str(each["secret"].get("secretName") or each["secret"]["name"]) for each in sources if "secret" in each}
