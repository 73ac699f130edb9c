"""Addresses that lead nowhere."""

from tests.manifests.faults.changes import FIRST, Fault, NearMiss, both, drop, put

FAULTS = (
    Fault(
        "a Service for a port that nobody opens", put("Service/sidecar", "spec.ports[0].targetPort", 8080),
        "services_reach_container_ports", ["Service/sidecar", "8080", "Deployment/sidecar"],
    ),
    Fault(
        "a Service for a port of another name", put("Service/redis", "spec.ports[0].targetPort", "cache"),
        "services_reach_container_ports", ["Service/redis", "'cache'"],
    ),
    Fault(
        "a Service by UDP for a port by TCP", put("Service/redis", "spec.ports[0].protocol", "UDP"),
        "services_reach_container_ports", ["Service/redis", "UDP"],
    ),
    Fault(
        "two ports of a Service without names",
        both(drop("Service/h2o", "spec.ports[0].name"), drop("Service/h2o", "spec.ports[1].name")),
        "services_reach_container_ports", ["Service/h2o", "spec.ports.name"],
    ),
    Fault(
        "a probe of a port that is not declared", put("*/sidecar", f"{FIRST}.livenessProbe.httpGet.port", 8001),
        "probes_ask_declared_ports", ["Deployment/sidecar", "livenessProbe", "8001"],
    ),
    Fault(
        "a probe without a port", drop("*/pgbouncer", f"{FIRST}.readinessProbe.tcpSocket.port"),
        "probes_ask_declared_ports", ["Deployment/pgbouncer", "readinessProbe", "None"],
    ),
    Fault(
        "a StatefulSet with a Service that is not there", put("StatefulSet/postgres", "spec.serviceName", "database"),
        "stateful_sets_have_a_headless_service", ["StatefulSet/postgres", "'database'"],
    ),
    Fault(
        "a StatefulSet with a Service of other pods", put("StatefulSet/postgres", "spec.serviceName", "h2o"),
        "stateful_sets_have_a_headless_service", ["StatefulSet/postgres", "does not choose"],
    ),
    Fault(
        "a StatefulSet whose Service has an address of its own", drop("Service/postgres", "spec.clusterIP"),
        "stateful_sets_have_a_headless_service", ["StatefulSet/postgres", "not headless"],
    ),
    Fault(
        "H2O's nodes are hidden until they are ready", drop("Service/h2o", "spec.publishNotReadyAddresses"),
        "h2o_nodes_can_find_each_other", ["Service/h2o", "publishNotReadyAddresses", "must be true"],
    ),
    Fault(
        "H2O's nodes start one after the other", drop("StatefulSet/h2o", "spec.podManagementPolicy"),
        "h2o_nodes_can_find_each_other", ["StatefulSet/h2o", "must be Parallel"],
    ),
    Fault(
        "more nodes than H2O expects", put("StatefulSet/h2o", "spec.replicas", 5),
        "h2o_nodes_can_find_each_other", ["H2O_NODE_EXPECTED_COUNT", "5 replicas"],
    ),
    Fault(
        "more nodes than training expects",
        both(
            put("StatefulSet/h2o", "spec.replicas", 5),
            put("StatefulSet/h2o", f"{FIRST}.env[H2O_NODE_EXPECTED_COUNT].value", "5"),
        ),
        "h2o_nodes_can_find_each_other", ["Deployment/mage", "PLATFORM_H2O__NODES", "5 replicas"],
    ),
    Fault(
        "H2O looks in another namespace",
        put("StatefulSet/h2o", f"{FIRST}.env[H2O_KUBERNETES_SERVICE_DNS].value", "h2o.ml-us.svc.cluster.local"),
        "h2o_nodes_can_find_each_other", ["StatefulSet/h2o", "h2o.ml-us.svc.cluster.local"],
    ),
    Fault(
        "an Ingress to a Service that is not there",
        put("Ingress/sidecar", "spec.rules[0].http.paths[0].backend.service.name", "predictions"),
        "ingresses_lead_to_services", ["Ingress/sidecar", "'predictions'"],
    ),
    Fault(
        "an Ingress to a port that the Service does not have",
        put("Ingress/sidecar", "spec.rules[0].http.paths[0].backend.service.port", {"number": 80}),
        "ingresses_lead_to_services", ["Ingress/sidecar", "80"],
    ),
    Fault(
        "an Ingress of no class", drop("Ingress/sidecar", "spec.ingressClassName"),
        "ingresses_lead_to_services", ["Ingress/sidecar", "ingressClassName"],
    ),
    Fault(
        "an Ingress whose TLS is for another host", put("Ingress/sidecar", "spec.tls[0].hosts[0]", "www.example.com"),
        "ingresses_speak_tls", ["Ingress/sidecar", "www.example.com"],
    ),
    Fault(
        "an Ingress without TLS", drop("Ingress/sidecar", "spec.tls"), "ingresses_speak_tls",
        ["Ingress/sidecar", "no tls"],
    ),
    Fault(
        "a setting with a host that is not there",
        put("*/sidecar", f"{FIRST}.env[+]", {"name": "PLATFORM_REDIS__HOST", "value": "cache"}),
        "settings_lead_to_services", ["Deployment/sidecar", "PLATFORM_REDIS__HOST", "'cache'"],
    ),
    Fault(
        "a setting with a port that the Service does not have",
        put("ConfigMap/platform", "data.PLATFORM_REDIS__PORT", "6380"),
        "settings_lead_to_services", ["redis:6380"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss("a Service by the port's number", put("Service/redis", "spec.ports[0].targetPort", 6379)),
    NearMiss("a Service without a target", drop("Service/redis", "spec.ports[0].targetPort")),
    NearMiss("a Service with a port of its own", put("Service/mage", "spec.ports[0].port", 80)),
    NearMiss("a probe by number", put("*/sidecar", f"{FIRST}.livenessProbe.httpGet.port", 8000)),
    NearMiss(
        "an Ingress by the Service's number",
        put("Ingress/sidecar", "spec.rules[0].http.paths[0].backend.service.port", {"number": 8000}),
    ),
    NearMiss(
        "a host with the whole name of the Service",
        put("ConfigMap/platform", "data.PLATFORM_REDIS__HOST", "redis.converged-platform.svc.cluster.local"),
    ),
)  # fmt: skip
