"""Hold a project against every rule, and set aside what is waived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from mage_platform.decisions import (
    cluster_checks,
    image_checks,
    pipeline_checks,
    pooler_checks,
    python_checks,
    requirement_checks,
    security_checks,
    sql_checks,
)
from mage_platform.decisions.findings import Finding
from mage_platform.decisions.project import Project
from mage_platform.decisions.waivers import Waiver, read_waivers
from mage_platform.errors import NotFound

Check = Callable[[Project], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "jsonb-not-json": sql_checks.json_columns,
    "feature-table": sql_checks.feature_table,
    "feature-index": sql_checks.feature_index,
    "no-range-partitions": sql_checks.range_partitions,
    "no-direct-postgres": pooler_checks.direct_connections,
    "pgbouncer-transaction-mode": pooler_checks.transaction_mode,
    "no-pojo": python_checks.plain_java_exports,
    "heap-within-limit": cluster_checks.heaps,
    "h2o-stateful-set": cluster_checks.h2o_workloads,
    "no-sync-predict": python_checks.synchronous_predictions,
    "one-contract": python_checks.redeclared_contracts,
    "cache-has-ttl": python_checks.endless_cache_values,
    "cache-key-names-model": python_checks.anonymous_cache_keys,
    "dynamic-fan-out": pipeline_checks.fan_outs,
    "no-docker-in-docker": image_checks.docker_daemons,
    "pinned-requirements": requirement_checks.floating_requirements,
    "pinned-images": image_checks.floating_images,
    "supported-versions": requirement_checks.old_versions,
    "no-root": security_checks.root_containers,
    "secrets-as-files": security_checks.exposed_secrets,
    "tls-at-ingress": security_checks.clear_ingresses,
    "network-policy": security_checks.open_networks,
}


@dataclass(frozen=True)
class Judgement:
    """How a project stands to the rules."""

    findings: list[Finding]
    waived: list[tuple[Finding, Waiver]]
    idle_waivers: list[Waiver]
    """Waivers that cover nothing, or that have run out."""
    unreadable: dict[str, str]
    """Files that no check could look into, with the reason."""

    @property
    def kept(self) -> bool:
        """Whether nothing is left to mend."""
        return not (self.findings or self.idle_waivers or self.unreadable)


def check_project(root: Path, *, today: date | None = None) -> Judgement:
    """Hold a project against every rule.

    Args:
        root: Its folder.
        today: By which waivers run out; None takes the present day, UTC.

    Raises:
        NotFound: There is no such folder.
        ContractViolated: The file of waivers is malformed.
    """
    if not root.is_dir():
        raise NotFound(f"there is no folder {root}: name the folder of a project", field="path")
    project = Project(root.resolve())
    today = today or datetime.now(UTC).date()
    waivers = read_waivers(project.root, set(CHECKS))
    found = sorted({finding for check in CHECKS.values() for finding in check(project)})
    standing = [waiver for waiver in waivers if waiver.until >= today]
    covering = {each: next((waiver for waiver in standing if waiver.covers(each)), None) for each in found}
    waived = [(each, waiver) for each, waiver in covering.items() if waiver is not None]
    used = {waiver for _, waiver in waived}
    return Judgement(
        findings=[each for each, waiver in covering.items() if waiver is None],
        waived=waived,
        idle_waivers=[waiver for waiver in waivers if waiver not in used],
        unreadable=dict(sorted(project.unreadable.items())),
    )
