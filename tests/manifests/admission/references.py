"""Every object that another one names is there, and so is the key of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.manifests.admission.documents import Container, Document, Rendered, Workload, namespace_of
from tests.manifests.admission.findings import Finding, check, found

Reference = tuple[str, str, str, str]
"""Field, kind, name, and the key within it (empty for the whole)."""


@check
def configuration_and_secrets_exist(rendered: Rendered) -> Iterator[Finding]:
    """ConfigMaps and Secrets of volumes, variables, image pulls and Ingresses, with the keys that are asked for."""
    for workload in rendered.workloads:
        for where, kind, name, key in _references(workload):
            document = rendered.find(kind, name, workload.namespace)
            if document is None:
                yield found(workload, where, name, f"there is no {kind} of this name in {workload.namespace!r}")
            elif key and key not in _keys(document):
                yield found(workload, where, key, f"{kind} {name} has no such key, only {sorted(_keys(document))}")
    for ingress in rendered.of("Ingress"):
        for number, each in enumerate(ingress["spec"].get("tls") or []):
            name = each.get("secretName", "")
            secret = rendered.find("Secret", name, namespace_of(ingress))
            where = f"spec.tls[{number}].secretName"
            if secret is None:
                yield found(
                    ingress, where, name, "there is no Secret of this name: TLS would end with a made-up certificate"
                )
            elif secret.get("type") != "kubernetes.io/tls" or not {"tls.crt", "tls.key"} <= _keys(secret):
                yield found(ingress, where, name, "not of type kubernetes.io/tls with tls.crt and tls.key")


@check
def accounts_and_claims_exist(rendered: Rendered) -> Iterator[Finding]:
    """ServiceAccounts and PersistentVolumeClaims of pods."""
    for workload in rendered.workloads:
        account = workload.pod.get("serviceAccountName", "default")
        if account != "default" and not rendered.find("ServiceAccount", account, workload.namespace):
            yield found(
                workload, f"{workload.where}.spec.serviceAccountName", account, "there is no such ServiceAccount"
            )
        for name, volume in workload.volumes.items():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and not rendered.find("PersistentVolumeClaim", claim, workload.namespace):
                where = f"{workload.where}.spec.volumes[{name}].persistentVolumeClaim.claimName"
                yield found(workload, where, claim, "there is no such PersistentVolumeClaim")


@check
def bindings_lead_somewhere(rendered: Rendered) -> Iterator[Finding]:
    """The role and the accounts of each binding."""
    for binding in rendered.of("RoleBinding", "ClusterRoleBinding"):
        role, namespace = binding["roleRef"], namespace_of(binding)
        if not rendered.find(role["kind"], role["name"], namespace if role["kind"] == "Role" else ""):
            yield found(binding, "roleRef.name", role["name"], f"there is no {role['kind']} of this name")
        for number, subject in enumerate(binding.get("subjects") or []):
            where = f"subjects[{number}]"
            if subject["kind"] != "ServiceAccount":
                yield found(binding, where, subject["kind"], "only ServiceAccounts of the platform are bound")
            elif not rendered.find("ServiceAccount", subject["name"], subject.get("namespace", namespace)):
                yield found(binding, where, subject, "there is no such ServiceAccount")


@check
def everything_stands_in_a_namespace_that_exists(rendered: Rendered) -> Iterator[Finding]:
    """An overlay brings its namespace; what names none would land in whichever is current."""
    for document in rendered.documents:
        namespace = namespace_of(document)
        if namespace and not rendered.find("Namespace", namespace):
            yield found(document, "metadata.namespace", namespace, "the overlay has no such Namespace")


def _references(workload: Workload) -> Iterator[Reference]:
    where = f"{workload.where}.spec"
    for name, volume in workload.volumes.items():
        yield from _of_volume(volume, f"{where}.volumes[{name}]")
    for container in workload.containers:
        yield from _of_variables(container)
        for mount in container.spec.get("volumeMounts") or []:
            if "configMap" in (volume := workload.volumes.get(mount["name"], {})) and "subPath" in mount:
                items = {each["path"] for each in volume["configMap"].get("items") or []}
                if mount["subPath"] not in items:
                    here = f"{container.where}.volumeMounts[{mount['mountPath']}].subPath"
                    yield here, "ConfigMap", volume["configMap"]["name"], mount["subPath"]
    for each in workload.pod.get("imagePullSecrets") or []:
        yield f"{where}.imagePullSecrets", "Secret", each["name"], ""


def _of_volume(volume: Document, where: str) -> Iterator[Reference]:
    sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    for source in sources:
        for field, kind, key in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            content: dict[str, Any] | None = source.get(field)
            if content is None or content.get("optional"):
                continue
            name = content.get(key) or content.get("name", "")
            items = content.get("items") or [{"key": ""}]
            yield from ((f"{where}.{field}", kind, name, each["key"]) for each in items)


def _of_variables(container: Container) -> Iterator[Reference]:
    for each in container.spec.get("env") or []:
        source = each.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if field in source and not source[field].get("optional"):
                yield f"{container.where}.env[{each['name']}]", kind, source[field]["name"], source[field]["key"]
    for each in container.spec.get("envFrom") or []:
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in each and not each[field].get("optional"):
                yield f"{container.where}.envFrom", kind, each[field]["name"], ""


def _keys(document: Document) -> set[str]:
    return {key for field in ("data", "stringData", "binaryData") for key in document.get(field) or {}}
