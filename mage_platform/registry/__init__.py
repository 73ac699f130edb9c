"""The model registry in PostgreSQL: immutable versions, their artifacts, and the aliases that move."""

from mage_platform.registry.aliases import (
    alias_history,
    champion,
    champions,
    champions_marker,
    lock_region,
    move_alias,
)
from mage_platform.registry.artifacts import fetch_artifact, sha256_of, store_artifact
from mage_platform.registry.decisions import last_decision, record_decision
from mage_platform.registry.reports import has_report, report_document, report_page, report_path, store_report
from mage_platform.registry.versions import model_version, model_versions, register

__all__ = [
    "alias_history",
    "champion",
    "champions",
    "champions_marker",
    "fetch_artifact",
    "has_report",
    "last_decision",
    "lock_region",
    "model_version",
    "model_versions",
    "move_alias",
    "record_decision",
    "register",
    "report_document",
    "report_page",
    "report_path",
    "sha256_of",
    "store_artifact",
    "store_report",
]
