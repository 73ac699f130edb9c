"""What accounts may do in the cluster, and which pods carry their tokens."""

from __future__ import annotations

from collections.abc import Iterator

from tests.manifests.admission.documents import Document, Rendered, Workload, namespace_of
from tests.manifests.admission.findings import Finding, check, found

_LEADS_TO_MORE = {"escalate", "bind", "impersonate"}
_SENSITIVE = {"secrets", "serviceaccounts/token", "pods/exec", "pods/attach", "pods/portforward", "nodes/proxy"}


@check
def roles_are_narrow(rendered: Rendered) -> Iterator[Finding]:
    """No wildcards, no Secrets, no way into other pods, no right that leads to more rights, nothing cluster-wide."""
    for role in rendered.of("Role", "ClusterRole"):
        for number, rule in enumerate(role.get("rules") or []):
            for field in ("apiGroups", "resources", "verbs"):
                values = set(rule.get(field) or [])
                for value in sorted(each for each in values if "*" in each):
                    yield found(role, f"rules[{number}].{field}", value, "no wildcards: name what is needed")
            for value in sorted(set(rule.get("resources") or []) & _SENSITIVE):
                yield found(role, f"rules[{number}].resources", value, "no part of the platform needs it")
            for value in sorted(set(rule.get("verbs") or []) & _LEADS_TO_MORE):
                yield found(role, f"rules[{number}].verbs", value, "leads to rights that stand nowhere")
    for document in rendered.of("ClusterRole", "ClusterRoleBinding"):
        yield found(document, "kind", document["kind"], "the platform keeps to its namespace: Role and RoleBinding")


@check
def tokens_are_mounted_where_used(rendered: Rendered) -> Iterator[Finding]:
    """A pod has its account's token exactly when something is bound to the account."""
    for workload in rendered.workloads:
        name = workload.pod.get("serviceAccountName", "default")
        account = rendered.find("ServiceAccount", name, workload.namespace) or {}
        bound = _is_bound(rendered, name, workload)
        mounted = workload.pod.get("automountServiceAccountToken")
        if mounted is None:
            mounted = account.get("automountServiceAccountToken", True)
        where = f"{workload.where}.spec.automountServiceAccountToken"
        if mounted and not bound:
            yield found(workload, where, mounted, f"nothing is bound to the account {name!r}: set it to false")
        if bound and not mounted:
            yield found(workload, where, mounted, f"the account {name!r} has rights that the pod cannot use without it")
        if bound and name == "default":
            yield found(
                workload, f"{workload.where}.spec.serviceAccountName", name, "rights belong to an account of its own"
            )


def _is_bound(rendered: Rendered, account: str, workload: Workload) -> bool:
    def names(binding: Document) -> bool:
        return any(
            each["name"] == account and each.get("namespace", namespace_of(binding)) == workload.namespace
            for each in binding.get("subjects") or []
        )

    return any(names(each) for each in rendered.of("RoleBinding", "ClusterRoleBinding"))
