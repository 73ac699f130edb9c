"""Too many rights, and images that move."""

from tests.manifests.admission import Document
from tests.manifests.faults.changes import FIRST, POD, Change, Fault, NearMiss, add, both, drop, one, put

_CONTEXT = f"{FIRST}.securityContext"


def _early(field: str, value: object) -> Change:
    """Change the security context of the Mage server's init container."""
    return put("Deployment/mage", f"{POD}.initContainers[0].securityContext.{field}", value)


def _user_per_container(documents: list[Document]) -> None:
    pod = one(documents, "*/redis")["spec"]["template"]["spec"]
    for field in ("runAsNonRoot", "runAsUser", "seccompProfile"):
        pod["containers"][0]["securityContext"][field] = pod["securityContext"].pop(field)


FAULTS = (
    Fault("the host's network", put("*/redis", f"{POD}.hostNetwork", True), "pods_are_restricted", ["hostNetwork"]),
    Fault(
        "the host's disk",
        both(
            put("*/redis", f"{POD}.volumes[+]", {"name": "host", "hostPath": {"path": "/"}}),
            put("*/redis", f"{FIRST}.volumeMounts[+]", {"name": "host", "mountPath": "/host"}),
        ),
        "pods_are_restricted", ["Deployment/redis", "volumes[host]", "hostPath"],
    ),
    Fault(
        "a setting of the kernel",
        put("*/redis", f"{POD}.securityContext.sysctls", [{"name": "net.core.somaxconn", "value": "1024"}]),
        "pods_are_restricted", ["sysctls"],
    ),
    Fault(
        "root", put("*/redis", f"{POD}.securityContext.runAsUser", 0), "containers_are_restricted",
        ["runAsUser", "redis"],
    ),
    Fault(
        "no user", drop("*/redis", f"{POD}.securityContext.runAsUser"), "containers_are_restricted",
        ["runAsUser", "None"],
    ),
    Fault(
        "root in one container", put("*/redis", f"{_CONTEXT}.runAsUser", 0), "containers_are_restricted",
        ["runAsUser", "= 0"],
    ),
    Fault(
        "a privileged init container", _early("privileged", True), "containers_are_restricted",
        ["Deployment/mage", "initContainers[wait-for-migrations]", "privileged"],
    ),
    Fault(
        "an init container with its capabilities", _early("capabilities", {}), "containers_are_restricted",
        ["initContainers[wait-for-migrations]", "must drop ALL"],
    ),
    Fault(
        "a capability", put("*/redis", f"{_CONTEXT}.capabilities.add", ["SYS_ADMIN"]), "containers_are_restricted",
        ["capabilities.add", "SYS_ADMIN"],
    ),
    Fault(
        "a way to more rights", drop("*/redis", f"{_CONTEXT}.allowPrivilegeEscalation"), "containers_are_restricted",
        ["allowPrivilegeEscalation", "must be false"],
    ),
    Fault(
        "no seccomp profile", drop("*/redis", f"{POD}.securityContext.seccompProfile"), "containers_are_restricted",
        ["seccompProfile"],
    ),
    Fault(
        "a port of the host", put("*/redis", f"{FIRST}.ports[0].hostPort", 6379), "containers_are_restricted",
        ["hostPort"],
    ),
    Fault(
        "a root file system that can be written", drop("*/redis", f"{_CONTEXT}.readOnlyRootFilesystem"),
        "root_file_systems_are_read_only", ["Deployment/redis"],
    ),
    Fault(
        "all verbs", put("Role/mage-jobs", "rules[1].verbs", ["*"]), "roles_are_narrow",
        ["Role/mage-jobs", "'*'", "wildcards"],
    ),
    Fault(
        "all Secrets", put("Role/mage-jobs", "rules[0].resources[+]", "secrets"), "roles_are_narrow", ["'secrets'"],
    ),
    Fault(
        "a right to more rights", put("Role/mage-jobs", "rules[0].verbs[+]", "impersonate"), "roles_are_narrow",
        ["'impersonate'"],
    ),
    Fault(
        "a right in all namespaces",
        add({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reads"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }),
        "roles_are_narrow", ["ClusterRole/reads", "keeps to its namespace"],
    ),
    Fault(
        "a token for nothing", put("*/redis", f"{POD}.automountServiceAccountToken", True),
        "tokens_are_mounted_where_used", ["Deployment/redis", "nothing is bound"],
    ),
    Fault(
        "a token by default", drop("*/redis", f"{POD}.automountServiceAccountToken"),
        "tokens_are_mounted_where_used", ["Deployment/redis", "True"],
    ),
    Fault(
        "rights without a token", put("*/mage", f"{POD}.automountServiceAccountToken", False),
        "tokens_are_mounted_where_used", ["Deployment/mage", "cannot use"],
    ),
    Fault(
        "no tag", put("*/sidecar", f"{FIRST}.image", "registry.example.com:5000/sidecar"), "images_have_exact_versions",
        ["Deployment/sidecar", "has no tag"],
    ),
    Fault("latest", put("*/sidecar", f"{FIRST}.image", "sidecar:latest"), "images_have_exact_versions", ["latest"]),
    Fault(
        "a major version", put("*/redis", f"{FIRST}.image", "redis:7"), "images_have_exact_versions",
        ["the tag 7 moves"],
    ),
    Fault(
        "a minor version", put("*/redis", f"{FIRST}.image", "python:3.11-slim"), "images_have_exact_versions",
        ["3.11-slim moves"],
    ),
    Fault(
        "a made-up digest", put("*/redis", f"{FIRST}.image", "redis@sha256:abc"), "images_have_exact_versions",
        ["not a digest"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss("the user of the container instead of the pod's", _user_per_container),
    NearMiss("a port below 1024", put("*/redis", f"{_CONTEXT}.capabilities.add", ["NET_BIND_SERVICE"])),
    NearMiss("a digest", put("*/redis", f"{FIRST}.image", f"redis@sha256:{'0123456789abcdef' * 4}")),
    NearMiss("PostgreSQL's versions have two numbers", put("*/postgres", f"{FIRST}.image", "postgres:15.14-bookworm")),
    NearMiss("a registry with a port", put("*/redis", f"{FIRST}.image", "registry.example.com:5000/redis:7.4.2")),
    NearMiss("the account says that its token is not mounted", both(
        drop("*/redis", f"{POD}.automountServiceAccountToken"), put("*/redis", f"{POD}.serviceAccountName", "quiet"),
        add({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "quiet"},
            "automountServiceAccountToken": False,
        }),
    )),
)  # fmt: skip
