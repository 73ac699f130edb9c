"""Numbers of pods that contradict each other, updates that interrupt, jobs without an end, wrong settings."""

from tests.manifests.faults.changes import FIRST, Fault, NearMiss, both, drop, put

_JOB = "spec.jobTemplate.spec"

FAULTS = (
    Fault(
        "a budget that holds every node back", put("PodDisruptionBudget/sidecar", "spec", {
            "minAvailable": 3, "selector": {"matchLabels": {"app.kubernetes.io/name": "sidecar"}},
        }),
        "budgets_leave_room", ["PodDisruptionBudget/sidecar", "at 3 replicas", "drained"],
    ),
    Fault(
        "a budget of zero", put("PodDisruptionBudget/pgbouncer", "spec.maxUnavailable", "0%"),
        "budgets_leave_room", ["PodDisruptionBudget/pgbouncer", "0%"],
    ),
    Fault(
        "an autoscaler without room", put("HorizontalPodAutoscaler/sidecar", "spec.maxReplicas", 3),
        "autoscalers_rule_alone", ["HorizontalPodAutoscaler/sidecar", "below maxReplicas"],
    ),
    Fault(
        "a number beside the autoscaler", put("*/sidecar", "spec.replicas", 4),
        "autoscalers_rule_alone", ["Deployment/sidecar", "every apply"],
    ),
    Fault(
        "an update with a replica less", put("*/sidecar", "spec.strategy.rollingUpdate.maxUnavailable", 1),
        "updates_keep_replicas", ["Deployment/sidecar", "maxUnavailable"],
    ),
    Fault(
        "an update as Kubernetes does it by itself", drop("*/sidecar", "spec.strategy"),
        "updates_keep_replicas", ["Deployment/sidecar", "spec.strategy"],
    ),
    Fault(
        "an update that stops all", put("*/pgbouncer", "spec.strategy", {"type": "Recreate"}),
        "updates_keep_replicas", ["Deployment/pgbouncer"],
    ),
    Fault(
        "an update that does not wait", drop("*/sidecar", f"{FIRST}.readinessProbe"),
        "updates_keep_replicas", ["Deployment/sidecar", "readinessProbe"],
    ),
    Fault(
        "two pods at the volume of one",
        both(
            put("PersistentVolumeClaim/mage-state", "spec.accessModes", ["ReadWriteOnce"]),
            put("*/mage", "spec.replicas", 2),
        ),
        "claims_of_one_node_are_replaced_in_place", ["Deployment/mage", "ReadWriteMany"],
    ),
    Fault(
        "a new pod that waits for the volume of the old one",
        both(
            put("PersistentVolumeClaim/mage-state", "spec.accessModes", ["ReadWriteOnce"]),
            put("*/mage", "spec.strategy", {"type": "RollingUpdate"}),
        ),
        "claims_of_one_node_are_replaced_in_place", ["Deployment/mage", "Recreate"],
    ),
    Fault(
        "backups beside each other", drop("CronJob/backup", "spec.concurrencyPolicy"),
        "jobs_end", ["CronJob/backup", "concurrencyPolicy"],
    ),
    Fault(
        "a backup without an end", drop("CronJob/backup", f"{_JOB}.activeDeadlineSeconds"),
        "jobs_end", ["CronJob/backup", "activeDeadlineSeconds"],
    ),
    Fault(
        "a backup that never starts again", drop("CronJob/backup", "spec.startingDeadlineSeconds"),
        "jobs_end", ["CronJob/backup", "startingDeadlineSeconds"],
    ),
    Fault("a job tried for ever", put("Job/database", "spec.backoffLimit", 1000), "jobs_end", ["Job/database", "1000"]),
    Fault(
        "a job that is started again by its pod", put("Job/database", "spec.template.spec.restartPolicy", "Always"),
        "jobs_end", ["Job/database", "'Always'"],
    ),
    Fault(
        "a setting with a slip of the pen", put("ConfigMap/platform", "data.PLATFORM_REDIS__PROT", "6379"),
        "settings_exist", ["PLATFORM_REDIS__PROT", "no such setting"],
    ),
    Fault(
        "a setting that is refused", put("ConfigMap/sidecar", "data.PLATFORM_SIDECAR__WORKERS", "1000"),
        "settings_make_a_production", ["Deployment/sidecar", "PLATFORM_SIDECAR__WORKERS"],
        frozenset({"heaps_leave_room"}),
    ),
    Fault(
        "PostgreSQL without PgBouncer", put("ConfigMap/platform", "data.PLATFORM_DATABASE__THROUGH_PGBOUNCER", "false"),
        "settings_make_a_production", ["production refuses direct PostgreSQL connections"],
    ),
    Fault(
        "a local environment", put("ConfigMap/platform", "data.PLATFORM_ENVIRONMENT", "local"),
        "settings_make_a_production", ["Deployment/sidecar", "must be production"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss("a budget in percent", put("PodDisruptionBudget/sidecar", "spec", {
        "minAvailable": "60%", "selector": {"matchLabels": {"app.kubernetes.io/name": "sidecar"}},
    })),
    NearMiss("H2O may forbid it", put("PodDisruptionBudget/h2o", "spec.maxUnavailable", 0)),
    NearMiss("zero percent is zero", put("*/sidecar", "spec.strategy.rollingUpdate.maxUnavailable", "0%")),
    NearMiss("a volume of one node and a pod that lets it go", put(
        "PersistentVolumeClaim/mage-state", "spec.accessModes", ["ReadWriteOnce"],
    )),
    NearMiss("a pod is tried again by its job", put("Job/database", "spec.template.spec.restartPolicy", "Never")),
)  # fmt: skip
