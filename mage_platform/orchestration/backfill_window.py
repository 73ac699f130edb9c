"""A run that belongs to a back-fill of Mage's ingests the interval it stands for.

A back-fill makes one run for each interval between its start and its end, the interval that begins at its end
included. Mage tells the blocks the interval as `interval_start_datetime` and `interval_end_datetime`, but a nightly
run gets such a pair as well, for the day that has just begun; and it gives the last month of a back-fill the length of
the one before, and a single interval no end at all. So each run of a back-fill is given `window_start` and
`window_end` when it is made. They stand among the variables of the run in the UI, and a retry keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown


def interval_window(start: datetime, interval_type: str, interval_units: int) -> dict[str, str]:
    """The window of a run as pipeline variables.

    Args:
        start: Where the interval begins; without a time zone it is UTC, as Mage keeps it.
        interval_type: `second`, `minute`, `hour`, `day`, `week`, `month`, `year`, or `custom` for seconds.
        interval_units: How many of them.

    Returns:
        `window_start` and, exclusive, `window_end`, in ISO 8601 with time zone.
    """
    from dateutil.relativedelta import relativedelta

    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    unit = "seconds" if interval_type == "custom" else f"{interval_type}s"
    length: Any = relativedelta(**{unit: interval_units})
    return {"window_start": start.isoformat(), "window_end": (start + length).isoformat()}


def give_backfills_their_window() -> None:
    """Let each new run of a back-fill have its interval as its window. Call once, after Mage knows its project.

    Raises:
        MageVersionUnknown: The installed Mage makes the runs of a back-fill in another way.
    """
    from mage_ai.orchestration.db.models import schedules

    runs: Any = schedules.PipelineRun
    backfills: Any = getattr(schedules, "Backfill", None)
    original = getattr(runs.create, "__func__", None)
    if original is None or not all(hasattr(backfills, name) for name in ("interval_type", "interval_units")):
        raise MageVersionUnknown(
            "Mage's PipelineRun.create is no class method, or its Backfill has no interval, so a back-fill would "
            "ingest everything in each of its runs; use the Mage version of requirements.txt."
        )

    def create(kind: Any, /, **facts: Any) -> Any:
        if facts.get("backfill_id") is not None:
            backfill = backfills.query.get(facts["backfill_id"])
            facts["variables"] = _with_window(facts.get("variables") or {}, facts["execution_date"], backfill)
        return original(kind, **facts)

    runs.create = classmethod(create)


def _with_window(variables: Mapping[str, Any], start: datetime, backfill: Any) -> dict[str, Any]:
    return {**variables, **interval_window(start, backfill.interval_type.value, backfill.interval_units)}
