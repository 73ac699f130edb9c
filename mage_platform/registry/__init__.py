"""The model registry in PostgreSQL: immutable versions, their artifacts, and the aliases that move."""

from mage_platform.registry.aliases import (
    alias_history,
    champion,
    champions,
    champions_marker,
    lock_region,
    move_alias,
    rollback_target,
    set_challenger,
)
from mage_platform.registry.artifacts import forget_artifacts, sha256_of
from mage_platform.registry.challengers import challenger_history, challengers, deployments, end_challenger
from mage_platform.registry.decisions import last_decision, record_decision
from mage_platform.registry.reports import has_report, report_document, report_page, report_path, store_report
from mage_platform.registry.retention import digests_of_runs, drop_artifacts
from mage_platform.registry.signatures import SigningKey, VerificationKeys, signing_key, verification_keys
from mage_platform.registry.signing import Signing, sign_registered
from mage_platform.registry.versions import (
    fetch_explainer,
    fetch_model,
    kept_model,
    model_version,
    model_versions,
    register,
    version_of_run,
)

__all__ = [
    "Signing",
    "SigningKey",
    "VerificationKeys",
    "alias_history",
    "challenger_history",
    "challengers",
    "champion",
    "champions",
    "champions_marker",
    "deployments",
    "digests_of_runs",
    "drop_artifacts",
    "end_challenger",
    "fetch_explainer",
    "fetch_model",
    "forget_artifacts",
    "has_report",
    "kept_model",
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
    "rollback_target",
    "set_challenger",
    "sha256_of",
    "sign_registered",
    "signing_key",
    "store_report",
    "verification_keys",
    "version_of_run",
]
