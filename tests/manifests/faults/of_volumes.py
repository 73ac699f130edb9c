"""Volumes, mounts, and references to what is not there."""

import copy

from tests.manifests.admission import Document
from tests.manifests.faults.changes import FIRST, POD, Fault, NearMiss, add, both, drop, one, put, remove

_MOUNTS = f"{FIRST}.volumeMounts"


def _tls_of_the_wrong_kind(documents: list[Document]) -> None:
    one(documents, "Secret/sidecar-tls")["type"] = "Opaque"


def _early_container(documents: list[Document]) -> None:
    pod = one(documents, "*/redis")["spec"]["template"]["spec"]
    container = copy.deepcopy(pod["containers"][0])
    container |= {"name": "early", "volumeMounts": [{"name": "early", "mountPath": "/early"}]}
    for each in ("ports", "readinessProbe", "livenessProbe"):
        container.pop(each, None)
    pod["initContainers"] = [container]


FAULTS = (
    Fault(
        "a mount without a volume", put("*/redis", f"{_MOUNTS}[+]", {"name": "cache", "mountPath": "/cache"}),
        "mounts_have_volumes", ["Deployment/redis", "'cache'", "no such volume"],
    ),
    Fault(
        "a volume that nobody mounts",
        put("*/redis", f"{POD}.volumes[+]", {"name": "spare", "emptyDir": {"sizeLimit": "1Mi"}}),
        "volumes_are_mounted", ["Deployment/redis", "'spare'"],
    ),
    Fault(
        "a claim that nobody mounts",
        put("StatefulSet/postgres", "spec.volumeClaimTemplates[+]", {
            "metadata": {"name": "wal"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }),
        "volumes_are_mounted", ["StatefulSet/postgres", "'wal'"],
    ),
    Fault(
        "two mounts at one path",
        put("*/redis", f"{_MOUNTS}[+]", {"name": "run", "mountPath": "/etc/redis/"}),
        "mount_paths_are_apart", ["Deployment/redis", "/etc/redis", "2 times"],
    ),
    Fault(
        "a path that is not absolute", put("*/redis", f"{_MOUNTS}[+]", {"name": "run", "mountPath": "run"}),
        "mount_paths_are_apart", ["'run'", "absolute"],
    ),
    Fault(
        "a Secret that can be written", drop("*/h2o", f"{_MOUNTS}[/run/secrets/h2o].readOnly"),
        "secrets_are_mounted_read_only", ["StatefulSet/h2o", "/run/secrets/h2o"],
    ),
    Fault(
        "a Secret that only root reads", drop("*/h2o", f"{POD}.securityContext.fsGroup"),
        "secret_files_can_be_read", ["StatefulSet/h2o", "0o440", "fsGroup"],
    ),
    Fault(
        "a Secret that is not there",
        put("*/h2o", f"{POD}.volumes[secrets].projected.sources[0].secret.name", "h2o-login"),
        "configuration_and_secrets_exist", ["StatefulSet/h2o", "no Secret of this name", "h2o-login"],
    ),
    Fault(
        "a key that a Secret does not have",
        put("*/h2o", f"{POD}.volumes[secrets].projected.sources[0].secret.items", [{"key": "realm", "path": "realm"}]),
        "configuration_and_secrets_exist", ["'realm'", "realm.properties"],
    ),
    Fault(
        "a ConfigMap that is not there", remove("ConfigMap/redis"),
        "configuration_and_secrets_exist", ["Deployment/redis", "no ConfigMap of this name"],
    ),
    Fault(
        "variables from a ConfigMap that is not there",
        put("*/redis", f"{FIRST}.envFrom[+]", {"configMapRef": {"name": "cache"}}),
        "configuration_and_secrets_exist", ["Deployment/redis", "'cache'"],
    ),
    Fault(
        "an Ingress with the wrong kind of Secret", _tls_of_the_wrong_kind,
        "configuration_and_secrets_exist", ["Ingress/sidecar", "not of type kubernetes.io/tls"],
    ),
    Fault(
        "an account that is not there", put("*/redis", f"{POD}.serviceAccountName", "redis"),
        "accounts_and_claims_exist", ["Deployment/redis", "ServiceAccount"],
    ),
    Fault(
        "a claim that is not there", remove("PersistentVolumeClaim/mage-state"),
        "accounts_and_claims_exist", ["mage-state", "PersistentVolumeClaim"],
    ),
    Fault(
        "a binding to a role that is not there", put("RoleBinding/mage-jobs", "roleRef.name", "jobs"),
        "bindings_lead_somewhere", ["RoleBinding/mage-jobs", "'jobs'"],
    ),
    Fault(
        "a binding to an account in another namespace",
        put("RoleBinding/mage-jobs", "subjects[0].namespace", "default"),
        "bindings_lead_somewhere", ["RoleBinding/mage-jobs", "'default'"], frozenset({"tokens_are_mounted_where_used"}),
    ),
    Fault(
        "an object in another namespace",
        add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lost", "namespace": "default"}}),
        "everything_stands_in_a_namespace_that_exists", ["ConfigMap/lost", "'default'"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss(
        "a Secret that need not be there",
        both(
            put("*/redis", f"{POD}.volumes[+]", {"name": "extra", "secret": {"secretName": "extra", "optional": True}}),
            put("*/redis", f"{_MOUNTS}[+]", {"name": "extra", "mountPath": "/extra", "readOnly": True}),
        ),
    ),
    NearMiss(
        "a Secret that everybody in the pod reads",
        both(
            drop("*/h2o", f"{POD}.securityContext.fsGroup"),
            put("*/h2o", f"{POD}.volumes[logins].projected.defaultMode", 0o444),
            put("*/h2o", f"{POD}.volumes[secrets].projected.defaultMode", 0o444),
        ),
    ),
    NearMiss(
        "a volume mounted at two paths", put("*/redis", f"{_MOUNTS}[+]", {"name": "run", "mountPath": "/run/more"}),
    ),
    NearMiss("a path below another", put("*/redis", f"{_MOUNTS}[+]", {"name": "run", "mountPath": "/etc/redis/run"})),
    NearMiss(
        "an init container mounts what no other does",
        both(
            put("*/redis", f"{POD}.volumes[+]", {"name": "early", "emptyDir": {"sizeLimit": "1Mi"}}),
            _early_container,
        ),
    ),
)  # fmt: skip
