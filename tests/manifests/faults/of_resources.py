"""Wrong amounts."""

from tests.manifests.faults.changes import FIRST, POD, Fault, NearMiss, both, drop, put

_LIMITS, _REQUESTS = f"{FIRST}.resources.limits", f"{FIRST}.resources.requests"

FAULTS = (
    Fault(
        "4GB, which is no quantity", put("*/sidecar", f"{_LIMITS}.memory", "4GB"),
        "quantities_are_valid", ["Deployment/sidecar", "'4GB'", "4Gi"], frozenset({"heaps_leave_room"}),
    ),
    Fault(
        "memory in thousandths of a byte",
        both(put("*/redis", f"{_LIMITS}.memory", "512m"), put("*/redis", f"{_REQUESTS}.memory", "512m")),
        "quantities_are_valid", ["Deployment/redis", "'512m'", "thousandth"],
        frozenset({"scratch_space_fits_its_limits"}),
    ),
    Fault(
        "a disk of 50 bytes",
        put("StatefulSet/postgres", "spec.volumeClaimTemplates[0].spec.resources.requests.storage", 50),
        "quantities_are_valid", ["StatefulSet/postgres", "storage"],
    ),
    Fault(
        "no memory limit", drop("*/redis", f"{_LIMITS}.memory"),
        "containers_have_requests_and_limits", ["Deployment/redis", "limits.memory", "missing"],
    ),
    Fault(
        "no processor requested", drop("*/pgbouncer", f"{_REQUESTS}.cpu"),
        "containers_have_requests_and_limits", ["Deployment/pgbouncer", "requests.cpu"],
    ),
    Fault(
        "more requested than allowed", put("*/redis", f"{_REQUESTS}.memory", "2Gi"),
        "requests_are_within_limits", ["Deployment/redis", "'2Gi'", "more than the limit"],
    ),
    Fault(
        "more processor requested than allowed, in another unit",
        both(put("*/redis", f"{_REQUESTS}.cpu", "1500m"), put("*/redis", f"{_LIMITS}.cpu", 1)),
        "requests_are_within_limits", ["1500m", "more than the limit 1"],
    ),
    Fault(
        "scratch space without an end", drop("*/sidecar", f"{POD}.volumes[tmp].emptyDir.sizeLimit"),
        "scratch_space_fits_its_limits", ["Deployment/sidecar", "volumes[tmp]", "missing"],
    ),
    Fault(
        "scratch space that gets the pod evicted", put("*/sidecar", f"{POD}.volumes[tmp].emptyDir.sizeLimit", "8Gi"),
        "scratch_space_fits_its_limits", ["Deployment/sidecar", "8192 MiB", "ephemeral-storage"],
    ),
    Fault(
        "scratch space in more memory than there is",
        put("*/redis", f"{POD}.volumes[run].emptyDir", {"medium": "Memory", "sizeLimit": "1Gi"}),
        "scratch_space_fits_its_limits", ["Deployment/redis", "1024 MiB", "memory limit"],
    ),
    Fault(
        "H2O's heap is 75 % of its memory", put("*/h2o", f"{FIRST}.args[1]", "-XX:MaxRAMPercentage=75"),
        "heaps_leave_room", ["StatefulSet/h2o", "more than 70 %"],
    ),
    Fault(
        "a heap of 6 GiB in 8", put("*/h2o", f"{FIRST}.args[1]", "-Xmx6g"),
        "heaps_leave_room", ["StatefulSet/h2o", "-Xmx6g", "8192 MiB"],
    ),
    Fault(
        "the sidecar's heap outgrows its limit",
        put("*/sidecar", f"{FIRST}.env[+]", {"name": "PLATFORM_SIDECAR__JAVA_HEAP_MIB", "value": "64000"}),
        "heaps_leave_room", ["Deployment/sidecar", "64000"],
    ),
    Fault(
        "a heap set by a variable",
        put("*/h2o", f"{FIRST}.env[+]", {"name": "JAVA_TOOL_OPTIONS", "value": "-Xms1g -Xmx8g"}),
        "heaps_leave_room", ["JAVA_TOOL_OPTIONS"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss("exactly 70 % of 8 GiB, in KiB", put("*/h2o", f"{FIRST}.args[1]", "-Xmx5872025k")),
    NearMiss(
        "the same amount in two units",
        both(put("*/redis", f"{_REQUESTS}.cpu", "1000m"), put("*/redis", f"{_LIMITS}.cpu", 1)),
    ),
    NearMiss("a quantity with an exponent", put("*/redis", f"{_LIMITS}.memory", "1e9")),
    NearMiss("a disk in memory", put("*/redis", f"{POD}.volumes[run].emptyDir.sizeLimit", "2Mi")),
)  # fmt: skip
