"""The children of the fan-out: a large region alone, small ones together, so that not each pays a start of its own.

What is finished is kept in the folder of the run, and what is under way leaves a mark there. So a child whose process
was killed goes on where it stood when Mage starts it again: the region that was under way ends with a reason, the
others are trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import ValidationError

from mage_platform.contracts import BatchOutcome, FailedCandidate, GoodCandidate, RegionBatch, RegionPlan, UseCase
from mage_platform.settings import Settings, TrainingSettings
from mage_platform.training.h2o_server import branch_prefix
from mage_platform.training.regions import train_region

log = structlog.get_logger()
CANDIDATE, UNDER_WAY = "candidate.json", "under_way"


def batches_of(plans: Sequence[RegionPlan], training: TrainingSettings) -> list[RegionBatch]:
    """Group plans into children: regions of few rows share one, spread evenly, the others have one each.

    Args:
        plans: In the order in which they should begin.
        training: What counts as small, how many share a child, and how many children work side by side.
    """
    small = [plan for plan in plans if plan.labelled_rows < training.small_region_rows]
    together = {id(plan) for plan in small} if len(small) > training.parallel_regions else set()
    alone = [RegionBatch(plans=[plan]) for plan in plans if id(plan) not in together]
    if not together:
        return alone
    count = max(training.parallel_regions, -(-len(small) // training.regions_a_child))
    return alone + [RegionBatch(plans=small[place::count]) for place in range(count)]


def child_name(batch: RegionBatch) -> str:
    """Name of a child in the Mage UI."""
    first = re.sub(r"[\x00-\x1f/]", "_", batch.plans[0].region)
    return f"train_{first}" if len(batch.plans) == 1 else f"train_{first}_and_{len(batch.plans) - 1}_more"


def train_batch(settings: Settings, use_case: UseCase, batch: RegionBatch) -> BatchOutcome:
    """Train the regions of one child, one after the other.

    Returns:
        For each a candidate or the reason why there is none, in their order. Never raises.
    """
    return BatchOutcome(candidates=[_once(settings, use_case, plan) for plan in batch.plans])


def _once(settings: Settings, use_case: UseCase, plan: RegionPlan) -> GoodCandidate | FailedCandidate:
    folder = settings.runs_folder / plan.run / branch_prefix(plan)
    if (kept := _kept(folder / CANDIDATE)) is not None:
        return kept
    mark = folder / UNDER_WAY
    if mark.exists():
        mark.unlink()
        reason = (
            "the process that trained it was killed, from outside or for want of memory: give the machine more memory, "
            f"or train it again by `mage-platform run train_regional_models --use-case {plan.use_case} "
            f"--set regions={plan.region}`"
        )
        log.warning("region failed", use_case=plan.use_case, region=plan.region, reason=reason)
        return FailedCandidate(plan=plan, reason=reason)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        candidate = train_region(settings, use_case, plan)
        if isinstance(candidate, GoodCandidate):
            (folder / CANDIDATE).write_text(candidate.model_dump_json(), encoding="utf-8")
        mark.unlink()
    except OSError as error:
        return FailedCandidate(plan=plan, reason=f"the folder of the run cannot be written: {error}")
    return candidate


def _kept(path: Path) -> GoodCandidate | None:
    try:
        return GoodCandidate.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):  # not there, or cut off in the middle of being written
        return None
