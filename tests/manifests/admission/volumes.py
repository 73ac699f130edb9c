"""Volumes of pods and where containers mount them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.manifests.admission.documents import Rendered, Workload
from tests.manifests.admission.findings import Finding, check, found


@check
def mounts_have_volumes(rendered: Rendered) -> Iterator[Finding]:
    """Each mount names a volume of the pod, or a claim of the StatefulSet."""
    for workload in rendered.workloads:
        there = _volumes(workload)
        for container in workload.containers:
            for mount in container.spec.get("volumeMounts") or []:
                if mount["name"] not in there:
                    where = f"{container.where}.volumeMounts[{mount.get('mountPath')}]"
                    yield found(workload, where, mount["name"], f"no such volume in the pod; it has {sorted(there)}")


@check
def volumes_are_mounted(rendered: Rendered) -> Iterator[Finding]:
    """A volume that no container mounts is left over, or a mount was forgotten."""
    for workload in rendered.workloads:
        mounted = {m["name"] for each in workload.containers for m in each.spec.get("volumeMounts") or []}
        for name in sorted(_volumes(workload) - mounted):
            yield found(workload, f"{workload.where}.spec.volumes", name, "no container mounts it")


@check
def mount_paths_are_apart(rendered: Rendered) -> Iterator[Finding]:
    """Absolute, and each once in a container."""
    for workload in rendered.workloads:
        for container in workload.containers:
            paths = [each.get("mountPath", "") for each in container.spec.get("volumeMounts") or []]
            where = f"{container.where}.volumeMounts.mountPath"
            for path, times in Counter(each.rstrip("/") for each in paths).items():
                if times > 1:
                    yield found(workload, where, path, f"mounted {times} times: the last hides the others")
                if not path.startswith("/") or ":" in path:
                    yield found(workload, where, path, "not an absolute path")


@check
def secrets_are_mounted_read_only(rendered: Rendered) -> Iterator[Finding]:
    """A Secret, alone or projected with others, is only ever read."""
    for workload in rendered.workloads:
        secret = {
            name
            for name, volume in workload.volumes.items()
            if "secret" in volume
            or any("secret" in each for each in (volume.get("projected") or {}).get("sources", []))
        }
        for container in workload.containers:
            for mount in container.spec.get("volumeMounts") or []:
                if mount["name"] in secret and mount.get("readOnly") is not True:
                    where = f"{container.where}.volumeMounts[{mount.get('mountPath')}].readOnly"
                    yield found(workload, where, mount.get("readOnly"), "a Secret is mounted with readOnly: true")


@check
def secret_files_can_be_read(rendered: Rendered) -> Iterator[Finding]:
    """The files belong to root: who is not root reads them by the group that `fsGroup` gives, else as anybody."""
    for workload in rendered.workloads:
        if (workload.pod.get("securityContext") or {}).get("fsGroup"):
            continue
        for name, volume in workload.volumes.items():
            content = volume.get("secret") or volume.get("projected") or {}
            mode = content.get("defaultMode", 0o644)
            if content and not mode & 0o004:
                where = f"{workload.where}.spec.volumes[{name}].defaultMode"
                yield found(workload, where, oct(mode), "only root could read it: the pod has no fsGroup")


def _volumes(workload: Workload) -> set[str]:
    claims = workload.document["spec"].get("volumeClaimTemplates") or []
    return {*workload.volumes, *(each["metadata"]["name"] for each in claims)}
