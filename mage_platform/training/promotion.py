"""Which version serves: each fresh one is held against the others on its held-out rows, then the rule decides."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import structlog

from mage_platform.contracts import (
    POOLED,
    Champion,
    ModelVersion,
    PromotionDecision,
    UseCase,
)
from mage_platform.database import connect
from mage_platform.errors import ArtifactCorrupt, PlatformError, SignatureInvalid
from mage_platform.registry import champion as champion_of
from mage_platform.registry import lock_region, move_alias, record_decision
from mage_platform.settings import Settings
from mage_platform.training.evaluation import evaluate
from mage_platform.training.held_out import CANDIDATE, HeldOut
from mage_platform.training.metrics import Floats
from mage_platform.training.promotion_rule import judge
from mage_platform.training.registered_scores import registered_scores
from mage_platform.training.registration import Registration
from mage_platform.training.report.writing import write_reports

log = structlog.get_logger()
ALREADY = "is the champion already"
"""The reason where there was nothing to decide; the decision that made it champion stays the last one."""


def promote(
    settings: Settings, use_case: UseCase, registration: Registration, *, moved_by: str
) -> list[PromotionDecision]:
    """Decide on each registered version and move `champion` where the rule says so.

    Args:
        settings: Database and H2O server.
        use_case: Its promotion rule.
        registration: Freshly registered versions with their held-out rows.
        moved_by: Who moves, for the history.

    Returns:
        One decision for each version, with the address of the version's report; each is recorded, except that on a
        version that is the champion already.

    Raises:
        SignatureInvalid: A present champion's signature is not right, so it was not loaded and nothing was moved in
            its region; raised after the other regions were decided on.
        ArtifactCorrupt: The same for its bytes.
    """
    rows = {region: HeldOut.read(Path(path)) for region, path in registration.held_out.items()}
    others = _Others(settings, rows.get(POOLED))
    decisions: list[PromotionDecision] = []
    refusals: list[PlatformError] = []
    for version in registration.versions:
        if version.region not in rows:  # decided on before, when this run was interrupted
            continue
        try:
            decisions.append(_promote_one(settings, use_case, version, rows[version.region], others, moved_by))
        except (ArtifactCorrupt, SignatureInvalid) as error:
            log.error(
                "model refused", audit=True, use_case=version.use_case, region=version.region,
                challenger=version.version, reason=str(error),
            )  # fmt: skip
            refusals.append(error)
    decided = {decision.region for decision in decisions}
    versions = [version for version in registration.versions if version.region in decided]
    decisions = write_reports(settings, use_case, versions, decisions, rows)
    if refusals:
        raise type(refusals[0])("\n".join(f"nothing was moved: {refusal}" for refusal in refusals))
    return decisions


def _promote_one(
    settings: Settings, use_case: UseCase, version: ModelVersion, rows: HeldOut, others: _Others, moved_by: str
) -> PromotionDecision:
    while True:
        with connect(settings) as connection:
            present = champion_of(connection, version.use_case, version.region)
        decision = _decide(use_case, version, rows, present, others)
        with connect(settings) as connection:
            # Another run may have moved the alias meanwhile: then this version was never held against that champion.
            lock_region(connection, version.use_case, version.region)
            if _number(champion_of(connection, version.use_case, version.region)) != _number(present):
                continue
            if decision.reason != ALREADY:
                record_decision(connection, decision)
            if decision.promoted:
                move_alias(
                    connection,
                    use_case=version.use_case,
                    region=version.region,
                    version=version.version,
                    moved_by=moved_by,
                    reason=decision.reason,
                )
        log.info("promotion decided", **decision.model_dump(mode="json", exclude={"evaluation", "clauses", "report"}))
        return decision


def _number(champion: Champion | None) -> int | None:
    return champion.model.version if champion else None


def _decide(
    use_case: UseCase, version: ModelVersion, rows: HeldOut, present: Champion | None, others: _Others
) -> PromotionDecision:
    known = {
        "use_case": version.use_case,
        "region": version.region,
        "version": version.version,
        "champion_version": _number(present),
        "decided_at": datetime.now(UTC),
    }
    if present is not None and present.model.version == version.version:
        return PromotionDecision(**known, promoted=False, reason=ALREADY)
    evaluation = evaluate(
        rows,
        use_case.deciding_metric,
        seed=version.seed,
        slices=use_case.training.slices or use_case.training.naive_baseline,
        champion=others.champion(present, rows) if present else None,
        champion_version=_number(present),
        pooled=others.pooled(version, rows),
    )
    clauses = judge(
        use_case.promotion,
        evaluation,
        schema=version.input_schema,
        champion_schema=present.model.input_schema if present else None,
        mojo_bytes=version.mojo_bytes,
        score_microseconds=version.score_microseconds,
    )
    failed = [each for each in clauses if not each.kept]
    reason = "; ".join(f"{each.clause}: {each.sentence}" for each in failed or clauses)
    if not present and not failed:
        reason += "; no champion before"
    return PromotionDecision(**known, promoted=not failed, reason=reason, clauses=clauses, evaluation=evaluation)


class _Others:
    """What present champions and the pooled model say of held-out rows, scored by H2O on those very rows."""

    def __init__(self, settings: Settings, pooled: HeldOut | None) -> None:
        self._settings = settings
        self._pooled_rows = pooled

    def champion(self, present: Champion, rows: HeldOut) -> Floats:
        """Predictions of a champion, in the order of the rows."""
        return self._score(present.model, rows)

    def pooled(self, version: ModelVersion, rows: HeldOut) -> Floats | None:
        """Predictions of the pooled model: this run's where it trained one on these rows, else its champion's."""
        if version.region == POOLED:
            return None
        if self._pooled_rows is not None and self._pooled_rows.classes == rows.classes:
            places = self._pooled_rows.places_of(rows)
            if places is not None:
                return self._pooled_rows.scored(CANDIDATE).predicted[places]
        with connect(self._settings) as connection:
            champion = champion_of(connection, version.use_case, POOLED)
        return self._score(champion.model, rows) if champion else None

    def _score(self, model: ModelVersion, rows: HeldOut) -> Floats:
        return registered_scores(self._settings, model, rows, run=f"{model.run}_promotion")
