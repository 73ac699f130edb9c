"""Selectors that choose nothing, or too much."""

from tests.manifests.faults.changes import POD, Fault, NearMiss, add, both, drop, put

_NAME = "{app.kubernetes.io/name}"
_ELSEWHERE = {"matchLabels": {"app.kubernetes.io/name": "nobody"}}

FAULTS = (
    Fault(
        "a selector that is not the template's", put("*/redis", f"spec.selector.matchLabels.{_NAME}", "cache"),
        "selectors_equal_template_labels", ["Deployment/redis", "'cache'"],
    ),
    Fault(
        "a selector that chooses other pods too",
        put("*/redis", "spec.selector", {"matchLabels": {"app.kubernetes.io/part-of": "converged-platform"}}),
        "selectors_equal_template_labels", ["Deployment/redis", "chooses the pods of"],
    ),
    Fault(
        "a Service for nobody", put("Service/redis", f"spec.selector.{_NAME}", "cache"),
        "services_select_pods", ["Service/redis", "'cache'"],
    ),
    Fault(
        "a budget for nobody", put("PodDisruptionBudget/sidecar", "spec.selector", _ELSEWHERE),
        "disruption_budgets_select_pods", ["PodDisruptionBudget/sidecar", "nobody"],
    ),
    Fault(
        "an autoscaler for nobody", put("HorizontalPodAutoscaler/sidecar", "spec.scaleTargetRef.name", "side-car"),
        "autoscalers_have_a_target", ["HorizontalPodAutoscaler/sidecar", "side-car"],
    ),
    Fault(
        "a policy for nobody",
        add({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "stray"},
            "spec": {"podSelector": _ELSEWHERE, "policyTypes": ["Ingress"]},
        }),
        "network_policies_select_pods", ["NetworkPolicy/stray", "spec.podSelector"],
    ),
    Fault(
        "a policy that admits nobody there is",
        add({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "stray"},
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": _ELSEWHERE}], "ports": [{"port": 6379}]}],
            },
        }),
        "network_policies_select_pods", ["NetworkPolicy/stray", "spec.ingress[0].from"],
    ),
    Fault(
        "a spread over other pods",
        put("*/sidecar", f"{POD}.topologySpreadConstraints[0].labelSelector", _ELSEWHERE),
        "pods_spread_and_attract_existing_pods", ["Deployment/sidecar", "does not count its own pods"],
    ),
    Fault(
        "an affinity for nobody",
        put("*/sidecar", f"{POD}.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution", [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": _ELSEWHERE},
        ]),
        "pods_spread_and_attract_existing_pods", ["Deployment/sidecar", "podAntiAffinity"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss(
        "labels beside those the selector names",
        put("*/redis", "spec.template.metadata.labels.{platform/role}", "cache"),
    ),
    NearMiss(
        "a Service without a selector has its addresses from elsewhere",
        add({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "warehouse"},
            "spec": {"type": "ExternalName", "externalName": "warehouse.example"},
        }),
    ),
    NearMiss(
        "a policy that admits a namespace that is not ours",
        add({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "monitoring"},
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}, "policyTypes": ["Ingress"],
                "ingress": [{
                    "from": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
                        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "exporter"}},
                    }],
                    "ports": [{"port": 6379}],
                }],
            },
        }),
    ),
    NearMiss(
        "a selector by an expression",
        both(
            drop("PodDisruptionBudget/sidecar", "spec.selector"),
            put("PodDisruptionBudget/sidecar", "spec.selector", {
                "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["sidecar", "x"]}],
            }),
        ),
    ),
)  # fmt: skip
