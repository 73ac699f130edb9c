"""A run that is driven without a server belongs to its process, not to the server's scheduler.

Both may share one metadata database. A server that starts meanwhile would find a running run whose blocks
have no process of its own, take them for crashed and run them a second time. So the process that drives a run
writes a claim into it and renews it; the server leaves a claimed run alone. When the process is gone the
claim grows stale, and the server does with the run what Mage does with any run that was interrupted: it
finishes it.
"""

from __future__ import annotations

import time
from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown

CLAIM = "driven_without_server_until"
CLAIM_SECONDS = 60.0


def claim(run: Any) -> None:
    """Claim a run for this process.

    Args:
        run: Mage's PipelineRun.
    """
    run.update(metrics={**(run.metrics or {}), CLAIM: time.time() + CLAIM_SECONDS})


def renew(run: Any) -> None:
    """Renew the claim when a third of it is used up.

    Args:
        run: Mage's PipelineRun.
    """
    if (run.metrics or {}).get(CLAIM, 0.0) - time.time() < CLAIM_SECONDS * 2 / 3:
        claim(run)


def claimed(run: Any) -> bool:
    """Tell whether another process drives a run.

    Args:
        run: Mage's PipelineRun.

    Returns:
        True while its claim holds.
    """
    return float((run.metrics or {}).get(CLAIM, 0.0)) > time.time()


def leave_claimed_runs_alone() -> None:
    """Let the server's scheduler see only the runs that nobody else drives.

    Raises:
        MageVersionUnknown: The installed Mage has no such method.
    """
    from mage_ai.orchestration.db.models.schedules import PipelineRun

    original = getattr(PipelineRun, "active_runs_for_pipelines", None)
    if original is None:
        raise MageVersionUnknown(
            "Mage's PipelineRun has no active_runs_for_pipelines, so the server cannot be kept from runs "
            "that another process drives; use the Mage version of requirements.txt."
        )

    def unclaimed_runs(kind: Any, *arguments: Any, **named: Any) -> list[Any]:
        return [each for each in original(*arguments, **named) if not claimed(each)]

    PipelineRun.active_runs_for_pipelines = classmethod(unclaimed_runs)
