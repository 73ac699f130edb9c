"""The rules of the technology decision registry: what each asks for, why, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["mandate", "forbidden"]


@dataclass(frozen=True)
class Rule:
    """One mandate or forbidden pattern."""

    id: str
    kind: Kind
    layer: str
    """Part of the stack it belongs to."""
    title: str
    reason: str
    alternative: str
    """What to do."""


def _mandate(name: str, layer: str, title: str, reason: str, alternative: str) -> Rule:
    return Rule(name, "mandate", layer, title, reason, alternative)


def _forbidden(name: str, layer: str, title: str, reason: str, alternative: str) -> Rule:
    return Rule(name, "forbidden", layer, title, reason, alternative)


RULES: tuple[Rule, ...] = (
    _mandate(
        "jsonb-not-json", "PostgreSQL", "JSONB, never JSON, in columns",
        "JSON is kept as text and cannot be indexed", "Declare the column as jsonb.",
    ),
    _mandate(
        "feature-table", "PostgreSQL", "features has the required columns and key",
        "producers and consumers rely on (entity_id uuid, event_time timestamptz, feature_vector jsonb)",
        "Declare the three columns not null and PRIMARY KEY (entity_id, event_time).",
    ),
    _mandate(
        "feature-index", "PostgreSQL", "a GIN index on features (feature_vector)",
        "without it every search inside vectors reads the whole table",
        "CREATE INDEX idx_features_vector_gin ON features USING gin (feature_vector).",
    ),
    _forbidden(
        "no-range-partitions", "PostgreSQL", "range partitions",
        "new rows all land in the newest range: a hotspot for writes", "PARTITION BY HASH.",
    ),
    _forbidden(
        "no-direct-postgres", "PostgreSQL", "direct PostgreSQL connections in production",
        "each process holds its own connections and the server runs out of them",
        "Point host and port at PgBouncer and set PLATFORM_DATABASE__THROUGH_PGBOUNCER=true.",
    ),
    _mandate(
        "pgbouncer-transaction-mode", "PostgreSQL", "PgBouncer in transaction mode, SCRAM, 1000/20/5",
        "in session mode a client keeps its server connection for as long as it lives",
        "pool_mode = transaction, auth_type = scram-sha-256, max_client_conn = 1000, default_pool_size = 20, "
        "reserve_pool_size = 5.",
    ),
    _forbidden(
        "no-pojo", "H2O", "H2O POJO",
        "the JVM limits the size of a method, and large models exceed it", "download_mojo(get_genmodel_jar=True).",
    ),
    _mandate(
        "heap-within-limit", "H2O", "JVM heap at most 70 % of the container's memory",
        "H2O needs memory beside the heap, and the kernel kills what exceeds the limit",
        "Set a memory limit, and -Xmx or MaxRAMPercentage to at most 70 % of it.",
    ),
    _mandate(
        "h2o-stateful-set", "H2O", "StatefulSet with a headless Service for H2O",
        "the nodes find each other through the DNS names that only those give",
        "kind: StatefulSet, serviceName of a Service with clusterIP: None.",
    ),
    _forbidden(
        "no-sync-predict", "FastAPI", "a synchronous predict on the event loop",
        "while it computes, the process answers nobody", "await loop.run_in_executor(executor, model.predict, rows).",
    ),
    _mandate(
        "one-contract", "FastAPI", "contracts shared by producer and consumer",
        "two declarations of one thing drift apart", "Import the class from mage_platform.contracts.",
    ),
    _mandate(
        "cache-has-ttl", "Redis", "every cached value has a TTL",
        "what never expires fills the memory, and outlives its truth", "redis.set(key, value, ex=300).",
    ),
    _mandate(
        "cache-key-names-model", "Redis", "the key of a cached prediction names its model",
        "after a promotion the old model's answer would be served; hash() differs in every process",
        "Put the MOJO's digest and a canonical digest of the features into the key.",
    ),
    _mandate(
        "dynamic-fan-out", "Mage", "dynamic blocks for the fan-out",
        "a loop trains one after the other, and one that fails takes the rest along",
        "A generator block with `dynamic: true`, and the training in its child.",
    ),
    _forbidden(
        "no-docker-in-docker", "Kubernetes", "Docker-in-Docker",
        "a privileged daemon, or its socket, is root on the node", "Build with Kaniko or BuildKit.",
    ),
    _mandate(
        "pinned-requirements", "Versions", "requirements pinned exactly",
        "the same commit must install the same packages", "name==version, compiled by `make lock`.",
    ),
    _mandate(
        "pinned-images", "Versions", "images pinned exactly",
        "a floating tag is another image tomorrow", "Name a full version, or a digest.",
    ),
    _mandate(
        "supported-versions", "Versions", "PostgreSQL 15+, Redis 7+, H2O 3, FastAPI 0.100+",
        "the platform relies on what those brought", "Raise the version.",
    ),
    _mandate(
        "no-root", "Security", "no container runs as root",
        "a way out of the container is then a way into the node",
        "runAsNonRoot: true in the securityContext; USER with a number in the image.",
    ),
    _mandate(
        "secrets-as-files", "Security", "secrets are mounted files of Kubernetes Secrets",
        "environment variables are inherited, dumped and logged; a value in a file of the project is no secret",
        "Mount the Secret as a volume and read the file.",
    ),
    _mandate(
        "tls-at-ingress", "Security", "every Ingress ends TLS",
        "credentials and features would cross the network in clear", "spec.tls with every host of the rules.",
    ),
    _mandate(
        "network-policy", "Security", "pods are isolated from each other",
        "without a policy every pod may reach every other",
        "A NetworkPolicy that denies by default, and the paths needed.",
    ),
)  # fmt: skip

BY_ID = {rule.id: rule for rule in RULES}
