"""Which version serves: the rule, and moving the alias by it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import structlog

from mage_platform.contracts import (
    BinaryMetrics,
    Champion,
    ModelVersion,
    PromotionDecision,
    RegionPlan,
    UseCase,
)
from mage_platform.contracts.use_case import Promotion
from mage_platform.database import connect
from mage_platform.features.training_set import training_files
from mage_platform.features.vectors import LABEL
from mage_platform.registry import champion as champion_of
from mage_platform.registry import fetch_artifact, move_alias
from mage_platform.settings import Settings
from mage_platform.training.evaluation import binary_metrics, labels_of
from mage_platform.training.h2o_server import Branch, h2o_server

log = structlog.get_logger()


def decide(
    rule: Promotion, candidate: BinaryMetrics, naive: BinaryMetrics, champion: BinaryMetrics | None
) -> tuple[bool, str]:
    """Whether a candidate becomes champion. Pure: everything it depends on is an argument.

    The candidate must be strictly better than the naive baseline, and better than the present champion by more
    than the rule's minimum gain, all three on the same held-out rows.

    Returns:
        The decision, and the sentence that goes into the alias history.
    """
    metric = rule.metric
    ours, naive_value = getattr(candidate, metric), getattr(naive, metric)
    sign = -1.0 if metric == "log_loss" else 1.0
    if sign * (ours - naive_value) <= 0:
        return False, f"{metric} {ours:.4f} does not beat the naive baseline's {naive_value:.4f}"
    if champion is None:
        return True, f"{metric} {ours:.4f} beats the naive baseline's {naive_value:.4f}; no champion before"
    present = getattr(champion, metric)
    if sign * (ours - present) <= rule.minimum_gain:
        margin = f" by more than {rule.minimum_gain:g}" if rule.minimum_gain else ""
        return False, f"{metric} {ours:.4f} does not beat the champion's {present:.4f}{margin}"
    return True, (f"{metric} {ours:.4f} beats the champion's {present:.4f} and the naive baseline's {naive_value:.4f}")


def promote(
    settings: Settings, use_case: UseCase, versions: Sequence[ModelVersion], *, moved_by: str
) -> list[PromotionDecision]:
    """Decide on each version and move `champion` where the rule says so.

    Args:
        settings: Database and H2O server.
        use_case: Its promotion rule.
        versions: Freshly registered versions.
        moved_by: Who moves, for the history.
    """
    return [_promote_one(settings, use_case, version, moved_by) for version in versions]


def _promote_one(settings: Settings, use_case: UseCase, version: ModelVersion, moved_by: str) -> PromotionDecision:
    with connect(settings) as connection:
        present = champion_of(connection, version.use_case, version.region)
    if present is not None and present.model.version == version.version:
        promoted, reason = True, "is the champion already"
        metrics: BinaryMetrics | None = present.model.metrics
    else:
        metrics = _champion_on_same_rows(settings, use_case, version, present) if present else None
        promoted, reason = decide(use_case.promotion, version.metrics, version.naive_metrics, metrics)
        if promoted:
            with connect(settings) as connection:
                move_alias(
                    connection,
                    use_case=version.use_case,
                    region=version.region,
                    version=version.version,
                    moved_by=moved_by,
                    reason=reason,
                )
    metric = use_case.promotion.metric
    decision = PromotionDecision(
        use_case=version.use_case,
        region=version.region,
        version=version.version,
        promoted=promoted,
        reason=reason,
        metric=metric,
        candidate_value=getattr(version.metrics, metric),
        naive_value=getattr(version.naive_metrics, metric),
        champion_version=present.model.version if present else None,
        champion_value=getattr(metrics, metric) if metrics else None,
    )
    log.info("promotion decided", **decision.model_dump())
    return decision


def _champion_on_same_rows(
    settings: Settings, use_case: UseCase, version: ModelVersion, present: Champion
) -> BinaryMetrics:
    """The present champion scored by H2O on the candidate's held-out rows."""
    settings.runs_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rows_", dir=settings.runs_folder) as rows:
        file = training_files(
            settings, version.use_case, version.region, use_case.input_schema, version.window, Path(rows),
            parts=("test",),
        )["test"]  # fmt: skip
        test = pq.read_table(file, columns=[LABEL])
        with connect(settings) as connection:
            mojo = fetch_artifact(connection, present.model.mojo_sha256, settings.state_folder / "artifacts")
        plan = RegionPlan(
            use_case=version.use_case,
            region=version.region,
            run=f"{version.run}_promotion",
            window=version.window,
            seed=version.seed,
            maximum_models=1,
            maximum_runtime_seconds=use_case.training.maximum_runtime_seconds,
            labelled_rows=len(test),
        )
        with h2o_server(settings):
            branch = Branch(plan, use_case.input_schema)
            try:
                probabilities = branch.probabilities(branch.upload_mojo(mojo), branch.upload("test", file))
            finally:
                branch.remove()
    return binary_metrics(labels_of(test), probabilities)
