"""Secrets that stand where everybody reads them."""

from tests.manifests.faults.changes import FIRST, Fault, NearMiss, add, put


def _variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


_ENV = f"{FIRST}.env[+]"
_SECRET_REF = {"secretKeyRef": {"name": "of-somebody", "key": "password", "optional": True}}

FAULTS = (
    Fault(
        "a variable from a Secret", put("*/redis", _ENV, {"name": "PLACE", "valueFrom": _SECRET_REF}),
        "variables_hold_no_secret", ["Deployment/redis", "env[PLACE]", "mount it as a file"],
    ),
    Fault(
        "all variables from a Secret",
        put("*/redis", f"{FIRST}.envFrom[+]", {"secretRef": {"name": "of-somebody", "optional": True}}),
        "variables_hold_no_secret", ["Deployment/redis", "envFrom"],
    ),
    Fault(
        "a password as a variable", put("*/redis", _ENV, _variable("REDIS_PASSWORD", "hunter2")),
        "variables_hold_no_secret", ["REDIS_PASSWORD", "(not shown)"],
    ),
    Fault(
        "a password of the platform as a variable",
        put("*/sidecar", _ENV, _variable("PLATFORM_DATABASE_PASSWORD", "x")),
        "variables_hold_no_secret", ["PLATFORM_DATABASE_PASSWORD", "setting is a secret"],
    ),
    Fault(
        "an address with a password",
        put("*/redis", _ENV, _variable("SOURCE", "postgresql://reader:hunter2@warehouse/x")),
        "variables_hold_no_secret", ["env[SOURCE]"],
    ),
    Fault(
        "what looks like a password", put("*/redis", _ENV, _variable("LOGIN", "f3Xq9ZtR2mVb7KpLw0Sd")),
        "variables_hold_no_secret", ["env[LOGIN]", "looks like a password"],
    ),
    Fault(
        "a password in the ConfigMap of variables", put("ConfigMap/platform", "data.MAGE_API_KEY", "abc"),
        "variables_hold_no_secret", ["MAGE_API_KEY"],
    ),
    Fault(
        "a password as an argument", put("*/redis", f"{FIRST}.command", ["redis-server", "--requirepass", "hunter2"]),
        "commands_hold_no_secret", ["Deployment/redis", "command", "(not shown)"],
    ),
    Fault(
        "a password in a probe",
        put("*/redis", f"{FIRST}.livenessProbe.exec.command", ["redis-cli", "-u", "redis://:hunter2@localhost"]),
        "commands_hold_no_secret", ["livenessProbe"],
    ),
    Fault(
        "a password in a configuration file",
        put("ConfigMap/redis", "data.{redis.conf}", "maxmemory 1gb\nrequirepass hunter2\n"),
        "configuration_holds_no_secret", ["ConfigMap/redis", "data[redis.conf]"],
    ),
    Fault(
        "a private key in a ConfigMap",
        add({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys"},
            "data": {"signing": "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----"},
        }),
        "configuration_holds_no_secret", ["ConfigMap/keys"],
    ),
)  # fmt: skip

NEAR_MISSES = (
    NearMiss(
        "the file a password is in",
        put("*/redis", _ENV, _variable("REDIS_PASSWORD_FILE", "/run/secrets/platform/x")),
    ),
    NearMiss(
        "a path under a name like a secret", put("*/redis", _ENV, _variable("API_TOKEN", "/run/secrets/platform/x")),
    ),
    NearMiss(
        "a field of the pod",
        put("*/redis", _ENV, {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ),
    NearMiss(
        "an address without a password",
        put("*/redis", _ENV, _variable("SOURCE", "postgresql://reader@warehouse:5432/x")),
    ),
    NearMiss(
        "a command that reads the file",
        put("*/redis", f"{FIRST}.command", ["sh", "-c", 'redis-server --requirepass "$(cat /run/secrets/platform/x)"']),
    ),
    NearMiss("how passwords are kept", put("ConfigMap/postgres", "data.more", "password_encryption = scram-sha-256\n")),
    NearMiss("a long option", put("*/redis", _ENV, _variable("OPTIONS", "-XX:MaxRAMPercentage=70.0"))),
)  # fmt: skip
