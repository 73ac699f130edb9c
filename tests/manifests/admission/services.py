"""From an address to the container that answers there: Ingress, Service, port, probe."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Container, Document, Rendered, Workload, name_of, namespace_of
from tests.manifests.admission.findings import Finding, check, found


@check
def services_reach_container_ports(rendered: Rendered) -> Iterator[Finding]:
    """Each port of a Service leads to a declared port of every pod it chooses."""
    for service in rendered.of("Service"):
        ports = service["spec"].get("ports") or []
        selector = service["spec"].get("selector")
        for number, port in enumerate(ports):
            target, protocol = port.get("targetPort", port["port"]), port.get("protocol", "TCP")
            chosen = rendered.selected({"matchLabels": selector}, namespace_of(service)) if selector else []
            for workload in chosen:
                if not _listens(workload, target, protocol):
                    yield found(
                        service, f"spec.ports[{number}].targetPort", target,
                        f"{workload.kind}/{workload.name} has no container port {target} {protocol}",
                    )  # fmt: skip
        for field in ("name", "port"):
            counted = Counter((each.get(field), field == "name" or each.get("protocol", "TCP")) for each in ports)
            for (value, _), times in counted.items():
                if times > 1:
                    yield found(service, f"spec.ports.{field}", value, "several ports of a Service need different ones")


@check
def probes_ask_declared_ports(rendered: Rendered) -> Iterator[Finding]:
    """A probe asks a port that its own container declares."""
    for workload in rendered.workloads:
        for container in workload.containers:
            declared = {each[key] for each in container.ports for key in ("name", "containerPort") if key in each}
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                for way in ("httpGet", "tcpSocket", "grpc"):
                    asked = (container.spec.get(kind) or {}).get(way)
                    if asked is not None and asked.get("port") not in declared:
                        where = f"{container.where}.{kind}.{way}.port"
                        yield found(workload, where, asked.get("port"), f"the container declares {declared or 'none'}")


@check
def stateful_sets_have_a_headless_service(rendered: Rendered) -> Iterator[Finding]:
    """`serviceName` gives the pods their names in DNS, which only a headless Service that chooses them does."""
    for workload in rendered.workloads:
        if workload.kind != "StatefulSet":
            continue
        name = workload.document["spec"].get("serviceName", "")
        service = rendered.find("Service", name, workload.namespace)
        if service is None:
            yield found(workload, "spec.serviceName", name, "there is no such Service")
        elif service["spec"].get("clusterIP") != "None":
            yield found(workload, "spec.serviceName", name, "the Service is not headless: clusterIP: None")
        elif not _chooses(service, workload):
            yield found(workload, "spec.serviceName", name, "the Service does not choose the pods of the StatefulSet")


@check
def h2o_nodes_can_find_each_other(rendered: Rendered) -> Iterator[Finding]:
    """Discovery by DNS, where only the leader is ever ready and no node starts before another.

    The number of nodes is the same for the nodes, their expectation, and everybody who trains on them.
    """
    for workload in rendered.workloads:
        for container in workload.containers:
            variables = rendered.variables(container)
            dns = variables.get("H2O_KUBERNETES_SERVICE_DNS")
            if dns is None:
                continue
            spec, name = workload.document["spec"], dns.split(".")[0]
            service = rendered.find("Service", name, workload.namespace) or {"spec": {}}
            if dns not in (f"{name}.{ns}.svc.cluster.local" for ns in (workload.namespace, "$(POD_NAMESPACE)")):
                where = f"{container.where}.env[H2O_KUBERNETES_SERVICE_DNS]"
                yield found(workload, where, dns, f"not a name in the namespace {workload.namespace}")
            if service["spec"].get("clusterIP") != "None" or not _chooses(service, workload):
                yield found(workload, "H2O_KUBERNETES_SERVICE_DNS", dns, "not a headless Service of these pods")
            elif service["spec"].get("publishNotReadyAddresses") is not True:
                yield found(
                    service, "spec.publishNotReadyAddresses", service["spec"].get("publishNotReadyAddresses"),
                    "must be true: nodes that are not ready would never find each other",
                )  # fmt: skip
            if spec.get("podManagementPolicy") != "Parallel":
                given = spec.get("podManagementPolicy")
                yield found(workload, "spec.podManagementPolicy", given, "must be Parallel: nodes wait for each other")
            nodes = str(spec.get("replicas", 1))
            if variables.get("H2O_NODE_EXPECTED_COUNT") != nodes:
                expected = variables.get("H2O_NODE_EXPECTED_COUNT")
                yield found(workload, "H2O_NODE_EXPECTED_COUNT", expected, f"there are {nodes} replicas")
            yield from _other_numbers_of_nodes(rendered, nodes)


@check
def ingresses_lead_to_services(rendered: Rendered) -> Iterator[Finding]:
    """Each path names a Service and a port that are there, and the class of the controller is given."""
    for ingress in rendered.of("Ingress"):
        spec = ingress["spec"]
        if not spec.get("ingressClassName"):
            yield found(ingress, "spec.ingressClassName", None, "missing: name the controller that answers")
        for where, backend in _backends(spec):
            wanted = backend.get("service") or {}
            service = rendered.find("Service", wanted.get("name", ""), namespace_of(ingress))
            port = wanted.get("port") or {}
            if service is None:
                yield found(ingress, where, wanted.get("name"), "there is no such Service")
            elif not any(
                port.get("name") == each.get("name", "") or port.get("number") == each["port"]
                for each in service["spec"]["ports"]
            ):
                yield found(ingress, where, port, f"the Service {name_of(service)} has no such port")


@check
def ingresses_speak_tls(rendered: Rendered) -> Iterator[Finding]:
    """Every host of a rule stands in a `tls` entry with a Secret."""
    for ingress in rendered.of("Ingress"):
        secured = {
            host
            for each in ingress["spec"].get("tls") or []
            if each.get("secretName")
            for host in each.get("hosts") or []
        }
        for number, rule in enumerate(ingress["spec"].get("rules") or []):
            host = rule.get("host", "")
            if host not in secured:
                yield found(
                    ingress, f"spec.rules[{number}].host", host, f"no tls entry with a Secret for it: {secured}"
                )


@check
def settings_lead_to_services(rendered: Rendered) -> Iterator[Finding]:
    """`PLATFORM_<group>__HOST` and `__PORT` are a Service of the namespace and one of its ports."""
    for workload in rendered.workloads:
        for container in workload.containers:
            variables = rendered.variables(container)
            for name in sorted(each for each in variables if each.startswith("PLATFORM_") and each.endswith("__HOST")):
                host, port = variables[name], variables.get(name.removesuffix("HOST") + "PORT")
                if _is_address(host):
                    continue
                service = rendered.find("Service", host.split(".")[0], workload.namespace)
                where = f"{container.where}.env[{name}]"
                if service is None:
                    yield found(workload, where, host, "there is no such Service")
                elif port is not None and not any(str(each["port"]) == port for each in service["spec"]["ports"]):
                    yield found(workload, where, f"{host}:{port}", "the Service has no such port")


def _listens(workload: Workload, target: Any, protocol: str) -> bool:
    return any(
        target in (port.get("name"), port["containerPort"]) and port.get("protocol", "TCP") == protocol
        for each in workload.containers
        if not each.begins or each.spec.get("restartPolicy") == "Always"
        for port in each.ports
    )


def _chooses(service: Document, workload: Workload) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and all(workload.labels.get(key) == value for key, value in selector.items())


def _other_numbers_of_nodes(rendered: Rendered, nodes: str) -> Iterator[Finding]:
    for client, container in ((w, c) for w in rendered.workloads for c in w.containers):
        given = _nodes(rendered, container)
        if given not in (None, nodes):
            yield found(client, f"{container.where}.env[PLATFORM_H2O__NODES]", given, f"H2O has {nodes} replicas")


def _nodes(rendered: Rendered, container: Container) -> str | None:
    return rendered.variables(container).get("PLATFORM_H2O__NODES")


def _backends(spec: Document) -> Iterator[tuple[str, Document]]:
    if "defaultBackend" in spec:
        yield "spec.defaultBackend", spec["defaultBackend"]
    for number, rule in enumerate(spec.get("rules") or []):
        for path in (rule.get("http") or {}).get("paths") or []:
            yield f"spec.rules[{number}].http.paths[{path.get('path')}].backend", path.get("backend") or {}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
