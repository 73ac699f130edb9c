"""Rules about the way to PostgreSQL: PgBouncer's configuration, and who goes round it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mage_platform.decisions import python_checks
from mage_platform.decisions.findings import Finding
from mage_platform.decisions.located_yaml import Located
from mage_platform.decisions.project import Project
from mage_platform.decisions.workloads import containers_of, documents, workloads

WANTED = {
    "pool_mode": "transaction",
    "auth_type": "scram-sha-256",
    "max_client_conn": "1000",
    "default_pool_size": "20",
    "reserve_pool_size": "5",
}
_DEFAULTS = {"pool_mode": "session", "auth_type": "md5", "max_client_conn": "100", "reserve_pool_size": "0"}
_URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?://[^\s'\"]*:5432\b")


def transaction_mode(project: Project) -> Iterator[Finding]:
    """Settings of PgBouncer that differ from the mandate."""
    for path, parser in project.pgbouncers.items():
        for name, wanted in WANTED.items():
            given = parser.get("pgbouncer", name, fallback=None)
            if (given or _DEFAULTS.get(name, wanted)).partition(";")[0].strip() != wanted:
                line = project.line_of(path, name if given is not None else "[pgbouncer]")
                said = f"is {given}" if given is not None else f"is left out, which means {_DEFAULTS[name]}"
                yield Finding(path, line, "pgbouncer-transaction-mode", f"{name} {said}, not {wanted}")
        for database, target in parser.items("databases") if parser.has_section("databases") else ():
            mode = re.search(r"\bpool_mode\s*=\s*(\w+)", target)
            if mode and mode.group(1) != "transaction":
                line = project.line_of(path, database)
                message = f"database {database} has pool_mode {mode.group(1)}, not transaction"
                yield Finding(path, line, "pgbouncer-transaction-mode", message)


def direct_connections(project: Project) -> Iterator[Finding]:
    """Addresses of PostgreSQL itself in production settings, manifests and code."""
    for path, tree in project.python.items():
        if not path.startswith("tests/"):
            yield from python_checks.direct_connections(path, tree)
    for path, document in documents(project):
        if document["kind"].text == "ConfigMap":
            yield from _in_settings(path, dict(document["data"].items()))
    for path, _, pod in workloads(project):
        for container in containers_of(pod):
            if "pgbouncer" not in f"{container['name'].text} {container['image'].text}":
                yield from _in_settings(path, _environment(container))
    for path, parsed in project.yaml.items():
        if path.endswith("io_config.yaml"):
            for document in parsed:
                for _, profile in document.items():
                    if profile["POSTGRES_PORT"].text == "5432":
                        line = profile["POSTGRES_PORT"].line
                        yield Finding(path, line, "no-direct-postgres", "POSTGRES_PORT is 5432")


def _environment(container: Located) -> dict[str, Located]:
    return {each["name"].text: each["value"] for each in container["env"]}


def _in_settings(path: str, values: dict[str, Located]) -> Iterator[Finding]:
    for name, value in values.items():
        if name.endswith(("DATABASE__PORT", "POSTGRES_PORT", "PGPORT", "DB_PORT")) and value.text == "5432":
            yield Finding(path, value.line, "no-direct-postgres", f"{name} is 5432, PostgreSQL's own port")
        elif _URL.search(value.text):
            yield Finding(path, value.line, "no-direct-postgres", f"{name} is an address with port 5432")
    production = values.get("PLATFORM_ENVIRONMENT")
    through = values.get("PLATFORM_DATABASE__THROUGH_PGBOUNCER")
    goes_through = through is not None and through.text.lower() in ("true", "1")
    asks = production is not None and production.text == "production" and "PLATFORM_DATABASE__HOST" in values
    if production is not None and asks and not goes_through:
        message = "production without PLATFORM_DATABASE__THROUGH_PGBOUNCER=true"
        yield Finding(path, production.line, "no-direct-postgres", message)
