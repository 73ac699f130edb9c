"""What selectors choose: a workload its own pods, everything else some pods that exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Rendered, Workload, matches, namespace_of
from tests.manifests.admission.findings import Finding, check, found

_SELECTING = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}


@check
def selectors_equal_template_labels(rendered: Rendered) -> Iterator[Finding]:
    """A workload selects the pods of its template, and no other workload's."""
    for workload in rendered.workloads:
        selector = workload.document.get("spec", {}).get("selector")
        if workload.kind == "Job":
            if selector and not workload.document["spec"].get("manualSelector"):
                yield found(workload, "spec.selector", selector, "Kubernetes sets it for a Job: leave it out")
            continue
        if workload.kind not in _SELECTING:
            continue
        if not selector:
            yield found(workload, "spec.selector", selector, "missing: it names the labels of the template")
        elif not matches(selector, workload.labels):
            yield found(
                workload, "spec.selector", selector, f"does not choose the template's own labels {workload.labels}"
            )
        else:
            for other in rendered.selected(selector, workload.namespace):
                if other.document is not workload.document:
                    yield found(
                        workload, "spec.selector", selector, f"chooses the pods of {other.kind}/{other.name} too"
                    )


@check
def services_select_pods(rendered: Rendered) -> Iterator[Finding]:
    """A Service with a selector; one without has its addresses from elsewhere."""
    for service in rendered.of("Service"):
        selector = service["spec"].get("selector")
        if selector and not rendered.selected({"matchLabels": selector}, namespace_of(service)):
            yield found(service, "spec.selector", selector, "chooses no pod of these manifests")


@check
def disruption_budgets_select_pods(rendered: Rendered) -> Iterator[Finding]:
    """A budget without a selector, or one that fits nothing, guards nothing."""
    for budget in rendered.of("PodDisruptionBudget"):
        selector = budget["spec"].get("selector") or {}
        if not selector or not rendered.selected(selector, namespace_of(budget)):
            yield found(budget, "spec.selector", selector, "chooses no pod of these manifests")


@check
def autoscalers_have_a_target(rendered: Rendered) -> Iterator[Finding]:
    """What an autoscaler scales is there, by kind, name and API version."""
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        wanted = scaler["spec"]["scaleTargetRef"]
        target = rendered.find(wanted["kind"], wanted["name"], namespace_of(scaler))
        if target is None or target["apiVersion"] != wanted.get("apiVersion"):
            yield found(scaler, "spec.scaleTargetRef", wanted, "there is no such object in the namespace")


@check
def network_policies_select_pods(rendered: Rendered) -> Iterator[Finding]:
    """The pods a policy is for, and the peers of its rules in namespaces that these manifests fill."""
    for policy in rendered.of("NetworkPolicy"):
        namespace, spec = namespace_of(policy), policy["spec"]
        if spec.get("podSelector") and not rendered.selected(spec["podSelector"], namespace):
            yield found(policy, "spec.podSelector", spec["podSelector"], "chooses no pod of these manifests")
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for number, rule in enumerate(spec.get(direction) or []):
                for peer in rule.get(key) or []:
                    if not _is_somebody(rendered, peer, namespace):
                        where = f"spec.{direction}[{number}].{key}"
                        yield found(policy, where, peer, "chooses no pod of these manifests")


@check
def pods_spread_and_attract_existing_pods(rendered: Rendered) -> Iterator[Finding]:
    """Spread constraints count the pods they stand in; affinities name pods that exist."""
    for workload in rendered.workloads:
        where = f"{workload.where}.spec.topologySpreadConstraints"
        for constraint in workload.pod.get("topologySpreadConstraints") or []:
            selector = constraint.get("labelSelector") or {}
            if not selector or not matches(selector, workload.labels):
                yield found(workload, where, selector, f"does not count its own pods {workload.labels}")
        for where, term in _affinity_terms(workload):
            namespaces = term.get("namespaces") or [workload.namespace]
            selector = term.get("labelSelector") or {}
            if not any(rendered.selected(selector, each) for each in namespaces):
                yield found(workload, where, selector, "chooses no pod of these manifests")


def _affinity_terms(workload: Workload) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (workload.pod.get("affinity") or {}).get(kind) or {}
        where = f"{workload.where}.spec.affinity.{kind}"
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
            yield f"{where}.requiredDuringSchedulingIgnoredDuringExecution", term
        for weighted in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []:
            yield f"{where}.preferredDuringSchedulingIgnoredDuringExecution", weighted["podAffinityTerm"]


def _is_somebody(rendered: Rendered, peer: dict[str, Any], namespace: str) -> bool:
    """Pods of namespaces that are not ours cannot be known here."""
    if "ipBlock" in peer:
        return True
    of_namespaces = peer.get("namespaceSelector")
    if of_namespaces is None:
        return bool(rendered.selected(peer.get("podSelector") or {}, namespace))
    filled = {each.namespace for each in rendered.workloads}
    ours = [each for each in filled if matches(of_namespaces, rendered.labels_of_namespace(each))]
    if not ours:
        return True
    return any(rendered.selected(peer.get("podSelector") or {}, each) for each in ours)
