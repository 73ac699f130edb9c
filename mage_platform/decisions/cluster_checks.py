"""Rules about H2O in a cluster: its kind of workload and its heap."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.located_yaml import Located
from mage_platform.decisions.project import Project
from mage_platform.decisions.workloads import bytes_of, called, containers_of, documents, workloads

SHARE = 0.70
_HEAP = re.compile(r"-Xmx(\d+)([kKmMgG]?)")
_PERCENTAGE = re.compile(r"-XX:MaxRAMPercentage=([0-9.]+)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_REFERENCE = re.compile(r"\$\((\w+)\)")


def heaps(project: Project) -> Iterator[Finding]:
    """JVMs whose heap is more than the share of their container's memory, or whose container has no limit."""
    for path, document, pod in workloads(project):
        for container in containers_of(pod):
            for line, text in _words(container):
                fault = _fault(text, container["resources"]["limits"]["memory"].text)
                if fault:
                    message = f"{called(document)}, container {container['name'].text}: {fault}"
                    yield Finding(path, line, "heap-within-limit", message)
    for path, instructions in project.dockerfiles.items():
        for each in instructions:
            share = _PERCENTAGE.search(each.value)
            if share and float(share.group(1)) > SHARE * 100:
                yield Finding(path, each.line, "heap-within-limit", f"the heap is {share.group(1)} % of the memory")


def _words(container: Located) -> Iterator[tuple[int, str]]:
    variables = {each["name"].text: each["value"] for each in container["env"]}
    words = [*container["command"], *container["args"]]
    referred = {name for each in words for name in _REFERENCE.findall(each.text)}
    for each in [*words, *(value for name, value in variables.items() if name not in referred)]:
        yield each.line, _REFERENCE.sub(lambda found: _value(variables, found.group(1)), each.text)


def _value(variables: dict[str, Located], name: str) -> str:
    return variables[name].text if name in variables else ""


def _fault(text: str, limit: str) -> str | None:
    """What is wrong with the heap that a text asks for."""
    heap, share = _HEAP.search(text), _PERCENTAGE.search(text)
    if heap is None and share is None:
        return None
    memory = bytes_of(limit)
    if memory is None:
        return f"{(heap or share).group(0)} without a memory limit"  # type: ignore[union-attr]
    if share is not None and float(share.group(1)) > SHARE * 100:
        return f"the heap is {share.group(1)} % of the limit"
    if heap is not None:
        asked = int(heap.group(1)) * _UNITS[heap.group(2).lower()]
        if asked > memory * SHARE:
            return f"{heap.group(0)} is {asked / memory:.0%} of the limit {limit}"
    return None


def h2o_workloads(project: Project) -> Iterator[Finding]:
    """H2O servers that are no StatefulSet with a headless Service."""
    headless = {
        document["metadata"]["name"].text
        for _, document in documents(project)
        if document["kind"].text == "Service" and document["spec"]["clusterIP"].text == "None"
    }
    for path, document, pod in workloads(project):
        if not any(_is_server(container) for container in containers_of(pod)):
            continue
        if document["kind"].text != "StatefulSet":
            message = f"{called(document)} runs H2O and is no StatefulSet"
            yield Finding(path, document.line, "h2o-stateful-set", message)
        elif (service := document["spec"]["serviceName"].text) not in headless:
            message = f"{called(document)} names serviceName {service!r}, which is no headless Service here"
            yield Finding(path, document["spec"]["serviceName"].line, "h2o-stateful-set", message)


def _is_server(container: Located) -> bool:
    variables = {each["name"].text for each in container["env"]}
    words = " ".join(each.text for each in [*container["command"], *container["args"]])
    image = container["image"].text.rpartition("/")[2].partition(":")[0].partition("@")[0]
    return "H2O_KUBERNETES_SERVICE_DNS" in variables or "h2o.jar" in words or image.startswith("h2o")
