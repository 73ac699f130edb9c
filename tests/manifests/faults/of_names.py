"""Wrong names, labels and variables."""

from tests.manifests.faults.changes import FIRST, POD, Fault, NearMiss, add, put

_LABELS = f"{POD.removesuffix('.spec')}.metadata.labels"
_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}

FAULTS = (
    Fault(
        "a name with capitals and an underscore", add(_MAP | {"metadata": {"name": "H2O_US"}}),
        "names_are_dns_names", ["ConfigMap/H2O_US", "not a DNS name"],
    ),
    Fault(
        "a Service whose name begins with a digit",
        add({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "2nd"}, "spec": {"ports": [{"port": 80}]}}),
        "names_are_dns_names", ["Service/2nd"],
    ),
    Fault(
        "a container named in capitals", put("*/sidecar", f"{FIRST}.name", "Sidecar"),
        "names_are_dns_names", ["Deployment/sidecar", "'Sidecar'"],
    ),
    Fault(
        "the name of a port is longer than 15 characters",
        put("*/redis", f"{FIRST}.ports[0].name", "the-port-of-redis"),
        "names_are_dns_names", ["the-port-of-redis", "15"], frozenset({"services_reach_container_ports"}),
    ),
    Fault(
        "a label with a blank", put("*/sidecar", f"{_LABELS}.{{platform/what}}", "prediction api"),
        "labels_have_the_right_form", ["Deployment/sidecar", "'prediction api'"],
    ),
    Fault(
        "a label that YAML reads as a number", put("*/sidecar", f"{_LABELS}.tier", 1),
        "labels_have_the_right_form", ["quotation marks"],
    ),
    Fault(
        "the key of an annotation with two slashes",
        put("Service/sidecar", "metadata.annotations.{prometheus/io/scrape}", "true"),
        "labels_have_the_right_form", ["Service/sidecar", "prometheus/io/scrape"],
    ),
    Fault(
        "a variable with a number", put("*/sidecar", f"{FIRST}.env[+]", {"name": "THREADS", "value": 4}),
        "variables_have_the_right_form", ["env[THREADS]", "quotation marks"],
    ),
    Fault(
        "a variable twice", put("*/h2o", f"{FIRST}.env[+]", {"name": "H2O_NODE_EXPECTED_COUNT", "value": "3"}),
        "variables_have_the_right_form", ["H2O_NODE_EXPECTED_COUNT", "stands twice"],
    ),
    Fault(
        "a variable that refers to one that is not there",
        put("*/pgbouncer", f"{FIRST}.env[+]", {"name": "PLACE", "value": "pool.$(POD_NAMESPACE)"}),
        "variables_have_the_right_form", ["Deployment/pgbouncer", "POD_NAMESPACE is not set above it"],
    ),
    Fault(
        "an object twice", add({**_MAP, "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mage"}}),
        "objects_stand_once", ["ServiceAccount/mage", "2 times"],
    ),
    Fault(
        "two volumes of one name",
        put("*/redis", f"{POD}.volumes[+]", {"name": "run", "emptyDir": {"sizeLimit": "1Mi"}}),
        "objects_stand_once", ["Deployment/redis", "'run'"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss("a role's name may have a colon", add({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "platform:reads-pods"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    })),
    NearMiss("a name may have dots", add(_MAP | {"metadata": {"name": "platform.dashboards.v1"}})),
    NearMiss("a label may be empty", put("*/sidecar", f"{_LABELS}.canary", "")),
    NearMiss("two dollars are a dollar", put("*/redis", f"{FIRST}.env[+]", {"name": "PLACE", "value": "$$(HOME)"})),
    NearMiss("the same name for another kind", add(_MAP | {"metadata": {"name": "sidecar"}})),
)  # fmt: skip
