"""Writes the report of every version that was decided on; a promotion never depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from mage_platform.contracts import ModelVersion, PromotionDecision, UseCase
from mage_platform.database import connect
from mage_platform.registry import has_report, report_path, store_report
from mage_platform.settings import Settings
from mage_platform.training.held_out import HeldOut
from mage_platform.training.report.document import report_of
from mage_platform.training.report.page import render
from mage_platform.validation.quarantine import report_of as validation_of

log = structlog.get_logger()


def write_reports(
    settings: Settings,
    use_case: UseCase,
    versions: Sequence[ModelVersion],
    decisions: Sequence[PromotionDecision],
    rows: Mapping[str, HeldOut],
) -> list[PromotionDecision]:
    """Write a report for each version, each in a transaction of its own.

    Args:
        settings: Where the database and the prediction API are.
        use_case: As declared.
        versions: That were decided on.
        decisions: One for each version, in their order; recorded already.
        rows: Held-out rows of each region.

    Returns:
        The decisions with the address of each report that is kept; one that cannot be written is logged and left out.
    """
    return [
        decision.model_copy(update={"report": _write(settings, use_case, version, decision, rows[version.region])})
        for version, decision in zip(versions, decisions, strict=True)
    ]


def _write(
    settings: Settings, use_case: UseCase, version: ModelVersion, decision: PromotionDecision, rows: HeldOut
) -> str | None:
    key = (version.use_case, version.region, version.version)
    named = {"use_case": version.use_case, "region": version.region, "version": version.version}
    address = settings.sidecar.url + report_path(*key)
    try:
        with connect(settings) as connection:
            # The champion trained again: nothing was weighed, and its report says why it became champion.
            if not decision.clauses and has_report(connection, *key):
                log.info("report kept as it is", **named, address=address)
                return address
            run = version.lineage.validation_run
            validation = validation_of(connection, version.use_case, run) if run else None
            report = report_of(use_case, version, decision, rows, validation)
            page = render(report)
            store_report(connection, report, page)
    except Exception:  # the promotion stands, whatever becomes of its report
        log.exception("report not written, the decision stands", **named)
        return None
    log.info("report written", **named, address=address, bytes=len(page.encode()))
    return address
