"""What is known about a pipeline run while it goes on, and when it has ended.

One set of contracts for both ways a run can be driven (by the Mage server, or without one), so that whoever
watches does not notice the difference. Mage hands out records (rows of its metadata database, or their JSON);
`run_progress` is the one place that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mage_platform.orchestration.failure_reason import reason_of
from mage_platform.orchestration.restart_limit import DEATHS


class RunStatus(StrEnum):
    """State of a pipeline run."""

    INITIAL = "initial"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing of the run will change any more."""
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class BlockStatus(StrEnum):
    """State of one block (or of one child of a dynamic block) within a run."""

    INITIAL = "initial"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UPSTREAM_FAILED = "upstream_failed"
    CONDITION_FAILED = "condition_failed"

    @property
    def ended(self) -> bool:
        """True when the block will not run (any more)."""
        return self not in (BlockStatus.INITIAL, BlockStatus.QUEUED, BlockStatus.RUNNING)


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BlockProgress(_Contract):
    """One block of a run, or one child of a dynamic block."""

    id: int
    """Mage's number of the block run."""
    block: str
    """The block as the pipeline names it, such as `train_region`."""
    child: str | None = None
    """For a child of a dynamic block its own name, such as `train_EWR`; else None."""
    status: BlockStatus
    """Where it stands."""
    started_at: AwareDatetime | None = None
    """When its latest attempt began."""
    completed_at: AwareDatetime | None = None
    """When it completed; Mage leaves this empty for a block that failed."""
    attempt: int = Field(default=1, ge=1)
    """Above 1 when its process died and it was started again."""
    reason: str | None = None
    """Why it failed, in one sentence; None unless it failed."""

    @property
    def name(self) -> str:
        """Name that is unique within the run: `train_region`, or `train_region:train_EWR` for a child."""
        return self.block if self.child is None else f"{self.block}:{self.child}"

    def elapsed_seconds(self, now: datetime) -> float | None:
        """How long the block has been running, or ran.

        Args:
            now: Present moment, with time zone.

        Returns:
            Seconds; None for a block that has not begun, or whose end Mage did not record.
        """
        if self.started_at is None:
            return None
        if self.completed_at is None and self.status is not BlockStatus.RUNNING:
            return None
        return max(0.0, ((self.completed_at or now) - self.started_at).total_seconds())


class RunProgress(_Contract):
    """A pipeline run as it stands at one moment.

    The children of a dynamic block appear when the block before it has said what there is to do, so the
    number of blocks grows once during such a run.
    """

    run_id: int
    """Mage's number of the run."""
    pipeline: str
    """Name of the pipeline."""
    status: RunStatus
    """Where the run stands."""
    started_at: AwareDatetime | None = None
    """When Mage began it; None while it waits."""
    completed_at: AwareDatetime | None = None
    """When it completed; Mage leaves this empty for most failed runs."""
    blocks: tuple[BlockProgress, ...] = ()
    """Its blocks in the order of the pipeline, each dynamic block followed by its children."""

    def children_of(self, block: str) -> tuple[BlockProgress, ...]:
        """The children a dynamic block has by now; empty for an ordinary block."""
        return tuple(each for each in self.blocks if each.block == block and each.child is not None)

    @property
    def steps(self) -> tuple[BlockProgress, ...]:
        """The blocks that do work: a dynamic block that has children is represented by them."""
        parents = {each.block for each in self.blocks if each.child is not None}
        return tuple(each for each in self.blocks if each.child is not None or each.block not in parents)

    @property
    def steps_ended(self) -> int:
        """How many of `steps` have ended, one way or another."""
        return sum(each.status.ended for each in self.steps)


class RunResult(_Contract):
    """How a pipeline run ended."""

    run_id: int
    """Mage's number of the run."""
    pipeline: str
    """Name of the pipeline."""
    status: RunStatus
    """`completed`, `failed` or `cancelled`."""
    elapsed_seconds: float = Field(ge=0)
    """From the request to the end of the run."""
    blocks: tuple[BlockProgress, ...] = ()
    """The blocks as they ended."""
    failed_block: str | None = None
    """Name of the block that failed first; None when none did."""
    reason: str | None = None
    """Why the run failed, in one sentence; None when it completed."""

    @property
    def completed(self) -> bool:
        """True when every block completed."""
        return self.status is RunStatus.COMPLETED


class LastRun(_Contract):
    """The latest run of a trigger."""

    run_id: int
    """Mage's number of the run."""
    status: RunStatus
    """Where it stands, or how it ended."""
    started_at: AwareDatetime | None = None
    """When it began."""


class Trigger(_Contract):
    """What starts a pipeline: the clock, or a call of the API."""

    id: int
    """Mage's number of the trigger."""
    name: str
    """Its name."""
    pipeline: str
    """The pipeline it starts."""
    kind: str
    """`time`, `api` or `event`."""
    interval: str | None = None
    """For a time trigger, when it fires: a cron expression, or `@daily` and the like."""
    active: bool
    """False while it is switched off."""
    next_run_at: AwareDatetime | None = None
    """When a time trigger fires next, where Mage says."""
    last_run: LastRun | None = None
    """Its latest run, if it has had one."""


def run_progress(record: Mapping[str, Any]) -> RunProgress:
    """Read Mage's record of a run.

    Args:
        record: Row of Mage's `pipeline_run`, or its JSON, with its `block_runs`.

    Returns:
        The run at that moment.
    """
    blocks = [_block_progress(each) for each in record.get("block_runs") or ()]
    return RunProgress(
        run_id=record["id"],
        pipeline=record["pipeline_uuid"],
        status=RunStatus(record["status"]),
        started_at=moment(record.get("started_at")),
        completed_at=moment(record.get("completed_at")),
        blocks=_in_pipeline_order(blocks),
    )


def run_result(progress: RunProgress, elapsed_seconds: float) -> RunResult:
    """Sum up a run that has ended.

    Args:
        progress: The run's last state.
        elapsed_seconds: Time from the request to the end.

    Returns:
        Its result, with the block that failed and why.
    """
    failed = next((each for each in progress.blocks if each.status is BlockStatus.FAILED), None)
    reason = None
    if progress.status is RunStatus.CANCELLED:
        reason = "The run was cancelled."
    elif progress.status is not RunStatus.COMPLETED:
        reason = failed.reason if failed else "Mage ended the run before any block failed; see its scheduler log."
    return RunResult(
        run_id=progress.run_id,
        pipeline=progress.pipeline,
        status=progress.status,
        elapsed_seconds=elapsed_seconds,
        blocks=progress.blocks,
        failed_block=failed.name if failed else None,
        reason=reason,
    )


def moment(value: datetime | str | None) -> datetime | None:
    """Read a time as Mage writes it: without a time zone it is UTC.

    >>> moment("2026-11-23 19:00:00.5").isoformat()
    '2026-11-23T19:00:00.500000+00:00'
    """
    if value is None or value == "":
        return None
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def _block_progress(record: Mapping[str, Any]) -> BlockProgress:
    block, _, child = str(record["block_uuid"]).partition(":")
    status = BlockStatus(record["status"])
    metrics = record.get("metrics") or {}
    return BlockProgress(
        id=record["id"],
        block=block,
        child=child or None,
        status=status,
        started_at=moment(record.get("started_at")),
        completed_at=moment(record.get("completed_at")),
        attempt=1 if status.ended else 1 + metrics.get(DEATHS, 0),
        reason=reason_of(metrics.get("error") or {}) if status is BlockStatus.FAILED else None,
    )


def _in_pipeline_order(blocks: Sequence[BlockProgress]) -> tuple[BlockProgress, ...]:
    """Mage numbers children after all ordinary blocks; put them behind the block they belong to."""
    first: dict[str, int] = {}
    for each in sorted(blocks, key=lambda each: each.id):
        first.setdefault(each.block, each.id)
    return tuple(sorted(blocks, key=lambda each: (first[each.block], each.id)))
