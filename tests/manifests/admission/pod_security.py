"""Pod Security, level `restricted`: a reading of https://kubernetes.io/docs/concepts/security/pod-security-standards/.

Windows, SELinux and AppArmor are left out. Three demands go beyond the standard: no sysctls, a read-only root file
system, and a numeric user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Container, Rendered, Workload
from tests.manifests.admission.findings import Finding, check, found

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


@check
def pods_are_restricted(rendered: Rendered) -> Iterator[Finding]:
    """Nothing of the host: neither its namespaces nor its disks, and no kernel settings."""
    for workload in rendered.workloads:
        where = f"{workload.where}.spec"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if workload.pod.get(field):
                yield found(workload, f"{where}.{field}", True, "the restricted level forbids it")
        if sysctls := (workload.pod.get("securityContext") or {}).get("sysctls"):
            yield found(workload, f"{where}.securityContext.sysctls", sysctls, "no sysctls here")
        for name, volume in workload.volumes.items():
            for kind in set(volume) - {"name"} - _VOLUMES:
                yield found(workload, f"{where}.volumes[{name}]", kind, "the restricted level forbids this volume")


@check
def containers_are_restricted(rendered: Rendered) -> Iterator[Finding]:
    """Every container, init containers too: no root, no capabilities, no way to more rights."""
    for workload in rendered.workloads:
        for container in workload.containers:
            where = f"{container.where}.securityContext"
            for field, value, reason in _faults(workload, container):
                yield found(workload, f"{where}.{field}", value, reason)


@check
def root_file_systems_are_read_only(rendered: Rendered) -> Iterator[Finding]:
    """What a container writes, it writes to a volume."""
    for workload in rendered.workloads:
        for container in workload.containers:
            value = (container.spec.get("securityContext") or {}).get("readOnlyRootFilesystem")
            if value is not True:
                where = f"{container.where}.securityContext.readOnlyRootFilesystem"
                yield found(workload, where, value, "must be true")


def _faults(workload: Workload, container: Container) -> Iterator[tuple[str, Any, str]]:
    own, of_pod = container.spec.get("securityContext") or {}, workload.pod.get("securityContext") or {}
    effective = {**of_pod, **own}
    if own.get("privileged"):
        yield "privileged", True, "the restricted level forbids it"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation", own.get("allowPrivilegeEscalation"), "must be false"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "capabilities.drop", capabilities.get("drop"), "must drop ALL"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add", capabilities["add"], "only NET_BIND_SERVICE may be added"
    if effective.get("runAsNonRoot") is not True:
        yield "runAsNonRoot", effective.get("runAsNonRoot"), "must be true, here or for the pod"
    if not effective.get("runAsUser"):
        yield "runAsUser", effective.get("runAsUser"), "must be a number other than 0, here or for the pod"
    if (profile := (effective.get("seccompProfile") or {}).get("type")) not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile.type", profile, "must be RuntimeDefault or Localhost"
    if own.get("procMount", "Default") != "Default":
        yield "procMount", own["procMount"], "must be Default"
    for port in container.ports:
        if port.get("hostPort"):
            yield "ports.hostPort", port["hostPort"], "no port of the host"
