"""The blocks of a run are created once, by the scheduler.

A run that is asked for through the API is saved first and gets its block runs a moment later, in the web
process. A scheduler that looks in between finds a run without block runs and creates them too. From then on every
block is there twice, the second one is never seen to complete, and the run does not end. It was seen on a busy
machine. The scheduler creates missing block runs in any case, so here nobody else does.
"""

from __future__ import annotations

from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown


def leave_block_runs_to_scheduler() -> None:
    """Save a new run without block runs, unless the caller asks for them.

    Raises:
        MageVersionUnknown: The installed Mage creates runs in another way.
    """
    from mage_ai.orchestration.db.models.schedules import PipelineRun

    original = getattr(PipelineRun.create, "__func__", None)
    if original is None:
        raise MageVersionUnknown(
            "Mage's PipelineRun.create is no class method, so block runs could be created twice; use the Mage "
            "version of requirements.txt."
        )

    def create(kind: Any, /, create_block_runs: bool = False, **facts: Any) -> Any:
        return original(kind, create_block_runs=create_block_runs, **facts)

    PipelineRun.create = classmethod(create)
