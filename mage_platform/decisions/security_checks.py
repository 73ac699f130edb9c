"""Rules about security: root, secrets, TLS, and who may reach whom."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.located_yaml import Located
from mage_platform.decisions.project import Project
from mage_platform.decisions.workloads import called, containers_of, documents, is_patch, workloads

_SECRET = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)(S?)$", re.IGNORECASE)
_PLACE = re.compile(r"(_FILE|_PATH|_FOLDER|_DIR|_NAME)$", re.IGNORECASE)


def root_containers(project: Project) -> Iterator[Finding]:
    """Containers that run as root, or that nothing keeps from it."""
    for path, document, pod in workloads(project):
        if is_patch(pod):
            continue
        for container in containers_of(pod):
            both = [container["securityContext"], pod["securityContext"]]
            user = next((each["runAsUser"] for each in both if "runAsUser" in each), None)
            non_root = next((each["runAsNonRoot"] for each in both if "runAsNonRoot" in each), None)
            where = f"{called(document)}, container {container['name'].text}"
            if user is not None and user.text == "0":
                yield Finding(path, user.line, "no-root", f"{where} has runAsUser 0")
            elif non_root is None or non_root.value is not True:
                yield Finding(path, container.line, "no-root", f"{where} has no runAsNonRoot: true")
    for path, instructions in project.dockerfiles.items():
        last = max((i for i, each in enumerate(instructions) if each.name == "FROM"), default=0)
        users = [each for each in instructions[last:] if each.name == "USER"]
        if not users:
            line = instructions[last].line if instructions else 1
            yield Finding(path, line, "no-root", "the last stage has no USER, so it runs as root")
        elif users[-1].value.strip().partition(":")[0] in ("root", "0"):
            yield Finding(path, users[-1].line, "no-root", f"USER {users[-1].value.strip()} is root")


def exposed_secrets(project: Project) -> Iterator[Finding]:
    """Secrets in environment variables, in images, and in files of the project."""
    for path, document, pod in workloads(project):
        for container in containers_of(pod):
            where = f"{called(document)}, container {container['name'].text}"
            for variable in container["env"]:
                name = variable["name"].text
                if "secretKeyRef" in variable["valueFrom"]:
                    message = f"{where} gets the secret {name} by environment variable"
                    yield Finding(path, variable.line, "secrets-as-files", message)
                elif _is_secret(name) and variable["value"].text:
                    yield Finding(path, variable.line, "secrets-as-files", f"{where} has {name} in clear")
            for source in container["envFrom"]:
                if "secretRef" in source:
                    message = f"{where} gets all of a Secret by environment variables"
                    yield Finding(path, source.line, "secrets-as-files", message)
    for path, document in documents(project):
        if document["kind"].text == "Secret":
            yield from _committed(path, document)
    for path, instructions in project.dockerfiles.items():
        for each in instructions:
            for name in _names(each.value) if each.name in ("ENV", "ARG") else ():
                if _is_secret(name):
                    message = f"{each.name} {name}: what an image is built with stays in it"
                    yield Finding(path, each.line, "secrets-as-files", message)


def _committed(path: str, document: Located) -> Iterator[Finding]:
    for member in ("data", "stringData"):
        for name, value in document[member].items():
            if value.text:
                message = f"{called(document)} has {name} in a file of the project"
                yield Finding(path, value.line, "secrets-as-files", message)


def _names(value: str) -> list[str]:
    if "=" not in value:
        return [value.split()[0]] if value.split() else []
    return re.findall(r"(?:^|\s)(\w+)=", value)


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _PLACE.search(name)


def clear_ingresses(project: Project) -> Iterator[Finding]:
    """Ingresses with a host that TLS does not cover."""
    for path, document in documents(project):
        if document["kind"].text != "Ingress":
            continue
        covered = {host.text for entry in document["spec"]["tls"] for host in entry["hosts"]}
        if not list(document["spec"]["tls"]):
            yield Finding(path, document.line, "tls-at-ingress", f"{called(document)} has no spec.tls")
            continue
        for rule in document["spec"]["rules"]:
            host = rule["host"].text
            wildcard = "*." + host.partition(".")[2]
            if host and host not in covered and wildcard not in covered:
                message = f"{called(document)} answers {host} without TLS"
                yield Finding(path, rule["host"].line, "tls-at-ingress", message)


def open_networks(project: Project) -> Iterator[Finding]:
    """Workloads in a project without a policy that denies by default."""
    running = [(path, document) for path, document, pod in workloads(project) if not is_patch(pod)]
    denied: set[str] = set()
    for _, document in documents(project):
        if document["kind"].text == "NetworkPolicy" and document["spec"]["podSelector"].value == {}:
            denied |= {each.text for each in document["spec"]["policyTypes"]}
    for path, document in running:
        if missing := [kind for kind in ("Ingress", "Egress") if kind not in denied]:
            message = f"{called(document)}: no NetworkPolicy denies {' and '.join(missing)} by default"
            yield Finding(path, document.line, "network-policy", message)
