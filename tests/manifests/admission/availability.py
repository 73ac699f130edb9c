"""Replicas, disruption budgets, autoscalers and updates agree with each other; jobs end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Document, Rendered, Workload, namespace_of
from tests.manifests.admission.findings import Finding, check, found

NEVER_EVICTED = {"h2o"}
"""Whose budgets may forbid every eviction: a cloud that loses a node has lost its training."""
_SCALED = {"Deployment", "StatefulSet"}


@check
def budgets_leave_room(rendered: Rendered) -> Iterator[Finding]:
    """A node can be drained: the budget lets one pod go, even at the fewest replicas."""
    for budget in rendered.of("PodDisruptionBudget"):
        spec = budget["spec"]
        for workload in rendered.selected(spec.get("selector") or {}, namespace_of(budget)):
            if workload.name in NEVER_EVICTED or workload.kind not in _SCALED:
                continue
            fewest = _fewest_replicas(rendered, workload)
            for field in ("minAvailable", "maxUnavailable"):
                if field not in spec:
                    continue
                pods = _pods(spec[field], fewest)
                if (pods >= fewest) if field == "minAvailable" else (pods < 1):
                    yield found(
                        budget, f"spec.{field}", spec[field],
                        f"no pod of {workload.kind}/{workload.name} may ever go, at {fewest} replicas: "
                        "a node with it cannot be drained",
                    )  # fmt: skip


@check
def autoscalers_rule_alone(rendered: Rendered) -> Iterator[Finding]:
    """Lowest below highest; the target names no number of its own and requests what is measured."""
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
        if least >= most:
            yield found(scaler, "spec.minReplicas", least, f"must be below maxReplicas {most}, else nothing is scaled")
        wanted = spec["scaleTargetRef"]
        for workload in rendered.workloads:
            if (workload.kind, workload.name, workload.namespace) != (
                wanted["kind"], wanted["name"], namespace_of(scaler),
            ):  # fmt: skip
                continue
            if "replicas" in workload.document["spec"]:
                given = workload.document["spec"]["replicas"]
                yield found(workload, "spec.replicas", given, "every apply would undo the autoscaler: leave it out")
            for metric in spec.get("metrics") or []:
                resource = metric.get("resource") or {}
                for container in workload.containers:
                    asked = (container.spec.get("resources") or {}).get("requests") or {}
                    if resource and resource["name"] not in asked:
                        where = f"{container.where}.resources.requests.{resource['name']}"
                        yield found(workload, where, None, "the autoscaler measures in shares of it")


@check
def updates_keep_replicas(rendered: Rendered) -> Iterator[Finding]:
    """A Deployment with a budget is updated without a replica missing, and a new pod counts once it is ready."""
    guarded = [
        workload
        for budget in rendered.of("PodDisruptionBudget")
        for workload in rendered.selected(budget["spec"].get("selector") or {}, namespace_of(budget))
        if workload.kind == "Deployment"
    ]
    for workload in guarded:
        strategy = workload.document["spec"].get("strategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate" or _pods(rolling.get("maxUnavailable", "25%"), 4):
            yield found(workload, "spec.strategy", strategy, "replicas go missing: rollingUpdate.maxUnavailable: 0")
        if "readinessProbe" not in workload.pod["containers"][0]:
            where = f"{workload.where}.spec.containers.readinessProbe"
            yield found(workload, where, None, "missing: a new pod would count before it can answer")


@check
def claims_of_one_node_are_replaced_in_place(rendered: Rendered) -> Iterator[Finding]:
    """A ReadWriteOnce volume goes with one pod: not shared by replicas, let go before the next pod starts."""
    for workload in rendered.workloads:
        for name, volume in workload.volumes.items():
            claim = rendered.find(
                "PersistentVolumeClaim", (volume.get("persistentVolumeClaim") or {}).get("claimName", ""),
                workload.namespace,
            )  # fmt: skip
            if claim is None or "ReadWriteMany" in claim["spec"].get("accessModes", []):
                continue
            where = f"{workload.where}.spec.volumes[{name}]"
            if workload.kind in _SCALED and _fewest_replicas(rendered, workload) > 1:
                yield found(workload, where, claim["spec"]["accessModes"], "several replicas share it: ReadWriteMany")
            if workload.kind == "Deployment" and (
                (workload.document["spec"].get("strategy") or {}).get("type") != "Recreate"
            ):
                yield found(
                    workload, "spec.strategy", None, "the new pod waits for the volume for ever: type: Recreate"
                )


@check
def jobs_end(rendered: Rendered) -> Iterator[Finding]:
    """A time limit, few attempts, no second run beside the first."""
    for workload in rendered.workloads:
        if workload.kind == "CronJob":
            spec = workload.document["spec"]
            if spec.get("concurrencyPolicy") not in ("Forbid", "Replace"):
                given = spec.get("concurrencyPolicy")
                yield found(workload, "spec.concurrencyPolicy", given, "runs would pile up: Forbid or Replace")
            if not spec.get("startingDeadlineSeconds"):
                yield found(
                    workload, "spec.startingDeadlineSeconds", None, "missing: after 100 missed runs none starts"
                )
            yield from _limits(workload, spec["jobTemplate"].get("spec") or {}, "spec.jobTemplate.spec")
        if workload.kind == "Job":
            yield from _limits(workload, workload.document["spec"], "spec")


def _limits(workload: Workload, job: Document, where: str) -> Iterator[Finding]:
    if not job.get("activeDeadlineSeconds"):
        yield found(workload, f"{where}.activeDeadlineSeconds", None, "missing: a job that hangs would hang for ever")
    if job.get("backoffLimit", 99) > 10:
        yield found(
            workload, f"{where}.backoffLimit", job.get("backoffLimit"), "say how often it is tried again: at most 10"
        )
    if workload.pod.get("restartPolicy") not in ("Never", "OnFailure"):
        given = workload.pod.get("restartPolicy")
        yield found(workload, f"{workload.where}.spec.restartPolicy", given, "must be Never or OnFailure")


def _fewest_replicas(rendered: Rendered, workload: Workload) -> int:
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"], namespace_of(scaler)) == (workload.kind, workload.name, workload.namespace):
            return int(scaler["spec"].get("minReplicas", 1))
    return int(workload.document["spec"].get("replicas", 1))


def _pods(value: Any, replicas: int) -> int:
    """Kubernetes rounds both fields of a budget up."""
    text = str(value)
    return math.ceil(int(text[:-1]) * replicas / 100) if text.endswith("%") else int(text)
