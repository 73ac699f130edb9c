"""Mage forgets why a child of a dynamic block failed; here the reason is kept.

Mage writes a block's error into the metrics of its block run by changing the dictionary that is there
already. Its database layer does not notice a change inside a dictionary, so the error is saved only where
there were no metrics before, and children of dynamic blocks always have some.
"""

from __future__ import annotations

import functools
from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown


def install_reason_keeper() -> None:
    """Save the error of every block that fails.

    Raises:
        MageVersionUnknown: The installed Mage's scheduler has no such method.
    """
    from mage_ai.orchestration.pipeline_scheduler import PipelineScheduler

    original = getattr(PipelineScheduler, "on_block_failure", None)
    if original is None:
        raise MageVersionUnknown(
            "Mage's PipelineScheduler has no on_block_failure, so the reasons of failed blocks cannot be kept; "
            "use the Mage version of requirements.txt."
        )
    if getattr(original, "keeps_reason", False):
        return

    @functools.wraps(original)
    def on_block_failure(scheduler: Any, block_uuid: str, **facts: Any) -> None:
        original(scheduler, block_uuid, **facts)
        _save(scheduler.pipeline_run.id, block_uuid, facts.get("error") or {})

    on_block_failure.keeps_reason = True  # type: ignore[attr-defined]
    PipelineScheduler.on_block_failure = on_block_failure


def _save(run_id: int, block_uuid: str, error: dict[str, Any]) -> None:
    from mage_ai.orchestration.db import db_connection
    from mage_ai.orchestration.db.models.schedules import BlockRun
    from sqlalchemy.orm.attributes import flag_modified

    block_run = BlockRun.get(pipeline_run_id=run_id, block_uuid=block_uuid)
    if block_run is None or not error:
        return
    kept = {"error": str(error.get("error")), "errors": error.get("errors"), "message": error.get("message")}
    block_run.metrics = {**(block_run.metrics or {}), "error": kept}
    flag_modified(block_run, "metrics")
    db_connection.session.commit()
