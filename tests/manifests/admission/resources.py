"""Requests and limits of containers, sizes of disks, and the share of the memory a Java heap may take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.manifests.admission.documents import Container, Document, Rendered
from tests.manifests.admission.findings import Finding, check, found
from tests.manifests.admission.quantities import amount

MOST_HEAP = Decimal("0.70")
"""Share of the container's memory limit (technology decision registry)."""
_LEAST_BYTES = 1024 * 1024
_XMX = re.compile(r"-(?:Xmx|XX:MaxHeapSize=)(\d+)([kKmMgGtT]?)")
_PERCENTAGE = re.compile(r"-XX:(?:Max|Initial|Min)RAMPercentage=([\d.]+)")
_HEAP_MIB = "PLATFORM_SIDECAR__JAVA_HEAP_MIB"


@check
def quantities_are_valid(rendered: Rendered) -> Iterator[Finding]:
    """Of containers, claims, memory disks and the metrics of autoscalers; memory never below one MiB."""
    for document in rendered.everything:
        for where, value in _quantities(document):
            read = amount(value)
            if read is None or read < 0:
                yield found(document, where, value, "not a quantity: write 500m, 2, 512Mi or 4Gi")
            elif where.endswith((".memory", ".storage", ".sizeLimit", "ephemeral-storage")) and read < _LEAST_BYTES:
                yield found(
                    document, where, value, "less than 1 MiB: the unit is missing, or 'm', which means a thousandth"
                )


@check
def containers_have_requests_and_limits(rendered: Rendered) -> Iterator[Finding]:
    """Both for processor and memory, and a limit wherever there is a request for anything else."""
    for workload in rendered.workloads:
        for container in workload.containers:
            resources = container.spec.get("resources") or {}
            asked, limited = resources.get("requests") or {}, resources.get("limits") or {}
            for kind in sorted({"cpu", "memory", *asked, *limited}):
                where = f"{container.where}.resources"
                if kind not in asked:
                    yield found(workload, f"{where}.requests.{kind}", None, "missing: the scheduler reckons with it")
                if kind not in limited:
                    yield found(workload, f"{where}.limits.{kind}", None, "missing: say what it may take at most")


@check
def requests_are_within_limits(rendered: Rendered) -> Iterator[Finding]:
    """Kubernetes refuses a request above its limit."""
    for workload in rendered.workloads:
        for container in workload.containers:
            resources = container.spec.get("resources") or {}
            for kind, asked in (resources.get("requests") or {}).items():
                limit = (resources.get("limits") or {}).get(kind)
                wanted, most = amount(asked), amount(limit)
                if wanted is not None and most is not None and wanted > most:
                    where = f"{container.where}.resources.requests.{kind}"
                    yield found(workload, where, asked, f"more than the limit {limit}")


@check
def scratch_space_fits_its_limits(rendered: Rendered) -> Iterator[Finding]:
    """Each `emptyDir` has a size, and together they fit what the containers may take: of disk, or of memory.

    A pod that fills more is evicted before its disk is full.
    """
    for workload in rendered.workloads:
        needed = {"ephemeral-storage": Decimal(0), "memory": Decimal(0)}
        for name, volume in workload.volumes.items():
            if "emptyDir" in volume:
                disk = volume["emptyDir"] or {}
                size = amount(disk.get("sizeLimit"))
                if size is None:
                    where = f"{workload.where}.spec.volumes[{name}].emptyDir.sizeLimit"
                    yield found(workload, where, disk.get("sizeLimit"), "missing: it could fill the disk of the node")
                needed["memory" if disk.get("medium") == "Memory" else "ephemeral-storage"] += size or 0
        for kind, size in needed.items():
            limits = [
                amount(((each.spec.get("resources") or {}).get("limits") or {}).get(kind))
                for each in workload.containers
                if not each.begins
            ]
            if None not in limits and size > (most := sum(filter(None, limits), Decimal(0))):
                where = f"{workload.where}.spec.volumes.emptyDir"
                text = f"{size / 1024**2:.0f} MiB"
                yield found(
                    workload, where, text, f"more than the {kind} limit {most / 1024**2:.0f} MiB of the containers"
                )


@check
def heaps_leave_room(rendered: Rendered) -> Iterator[Finding]:
    """Java's heaps take at most 70 % of the memory limit, whichever way they are set."""
    for workload in rendered.workloads:
        for container in workload.containers:
            limit = amount(((container.spec.get("resources") or {}).get("limits") or {}).get("memory"))
            for where, text, heap in _heaps(container, rendered):
                if limit is None:
                    yield found(workload, where, text, "the container has no memory limit to compare with")
                elif (heap if heap > 1 else heap * limit) > MOST_HEAP * limit:
                    yield found(
                        workload, where, text, f"more than 70 % of the memory limit {limit / 1024**2:.0f} MiB"
                    )  # fmt: skip


def _heaps(container: Container, rendered: Rendered) -> Iterator[tuple[str, str, Decimal]]:
    """Field, text and size of each heap; a share of the memory where it is at most 1."""
    texts = [(field, str(each)) for field in ("command", "args") for each in container.spec.get(field) or []]
    variables = rendered.variables(container)
    texts += [(f"env[{name}]", value) for name, value in variables.items()]
    for field, text in texts:
        where = f"{container.where}.{field}"
        for number, unit in _XMX.findall(text):
            yield where, text, Decimal(number) * 1024 ** " kmgt".index(unit.lower() or " ")
        for percentage in _PERCENTAGE.findall(text):
            yield where, text, Decimal(percentage) / 100
    if _HEAP_MIB in variables:
        workers = int(variables.get("PLATFORM_SIDECAR__WORKERS", "1"))
        yield f"{container.where}.env[{_HEAP_MIB}]", variables[_HEAP_MIB], workers * int(variables[_HEAP_MIB]) * 1024**2


def _quantities(document: Document) -> Iterator[tuple[str, Any]]:
    def walk(value: Any, where: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, list):
            for number, inner in enumerate(value):
                yield from walk(inner, f"{where}[{inner.get('name', number) if isinstance(inner, dict) else number}]")
        elif isinstance(value, dict):
            for key, inner in value.items():
                here = f"{where}.{key}".lstrip(".")
                if key in ("requests", "limits", "hard") and isinstance(inner, dict):
                    yield from ((f"{here}.{kind}", each) for kind, each in inner.items())
                elif key in ("sizeLimit", "averageValue"):
                    yield here, inner
                elif key not in ("data", "stringData"):
                    yield from walk(inner, here)

    if document["kind"] not in ("ConfigMap", "Secret"):
        yield from walk(document, "")
