"""Keeps Mage from writing into `triggers.yaml` just because the server was started.

Mage stamps `last_enabled_at` into the file of every active trigger that has none, sorts its keys and drops its
comments: a clean checkout would be dirty after its first start. The moment is needed in the metadata database
only (a trigger must not fire for a time before it was enabled), so that is where it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown


def leave_trigger_files_alone() -> None:
    """Install the guard. Call once, after Mage knows its project and before its scheduler starts.

    Raises:
        MageVersionUnknown: The installed Mage synchronises triggers in another way.
    """
    from mage_ai.orchestration.db.models.schedules import PipelineSchedule

    original = getattr(PipelineSchedule, "create_or_update_batch", None)
    if original is None:
        raise MageVersionUnknown(
            "Mage's PipelineSchedule has no create_or_update_batch, so it would rewrite triggers.yaml; use the Mage "
            "version of requirements.txt."
        )

    def create_or_update_batch(_: type[Any], triggers: Sequence[Any]) -> Any:
        _stamp(PipelineSchedule, triggers)
        return original(triggers)

    PipelineSchedule.create_or_update_batch = classmethod(create_or_update_batch)


def _stamp(schedules: Any, triggers: Sequence[Any]) -> None:
    """Give each active trigger the moment the database knows, or this one when it is new there."""
    names = [trigger.name for trigger in triggers]
    known = {
        (row.pipeline_uuid, row.name): row.last_enabled_at
        for row in schedules.repo_query.filter(schedules.name.in_(names)).all()
    }
    for trigger in triggers:
        if trigger.status == "active" and trigger.last_enabled_at is None:
            trigger.last_enabled_at = known.get((trigger.pipeline_uuid, trigger.name)) or datetime.now(UTC)
