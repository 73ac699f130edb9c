"""The document of a report, from what is known at the moment of a decision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mage_platform.contracts import ModelVersion, PromotionDecision, UseCase, ValidationReport
from mage_platform.contracts.report import ModelReport
from mage_platform.training.held_out import CANDIDATE, NAIVE, HeldOut
from mage_platform.training.report import curves


def report_of(
    use_case: UseCase,
    version: ModelVersion,
    decision: PromotionDecision,
    rows: HeldOut,
    validation: ValidationReport | None,
) -> ModelReport:
    """Put a report together.

    Args:
        use_case: As declared.
        version: The one that was decided on.
        decision: With its evaluation.
        rows: The held-out rows the evaluation was made on.
        validation: The newest one before the training; None where there is none.
    """
    candidate = rows.scored(CANDIDATE)
    shown: dict[str, Any] = {"observed_intervals": curves.observed_intervals(candidate)}
    if rows.kind == "binary":
        shown["gain"] = curves.gain_curve(candidate, rows.scored(NAIVE))
    elif rows.kind == "multiclass":
        shown["confusion"] = curves.confusion(candidate)
    else:
        shown["residuals"] = curves.residuals(candidate)
    positive = use_case.target.positive
    return ModelReport(
        written_at=datetime.now(UTC),
        title=use_case.title,
        description=use_case.description,
        region_column=use_case.region,
        positive="" if positive is None else str(positive),
        model=version,
        decision=decision,
        validation=validation,
        **shown,
    )
