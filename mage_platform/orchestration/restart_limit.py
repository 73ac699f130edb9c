"""An end to restarting a block whose process is killed each time.

Mage's scheduler queues a running block again when its process is gone. That is right after a restart of the
server, and wrong for a block that the kernel kills for want of memory: it is started again without limit and
the run never ends. Here the deaths are counted with the block run itself, so that the count outlives a
restart of the server, and the block run fails when it has used up its attempts.
"""

from __future__ import annotations

import time
from typing import Any

import structlog

from mage_platform.orchestration.refusals import MageVersionUnknown

MAX_ATTEMPTS = 2
DEATHS = "process_deaths"
# The scheduler sees a job vanish a moment before it sees the block run completed, and sees neither "queued"
# nor a process while a worker takes the job out of the queue. Looking twice tells these from a death.
SECOND_LOOK_AFTER_SECONDS = 0.3
_METHOD = "_PipelineScheduler__fetch_crashed_block_runs"

log = structlog.get_logger(__name__)


def install_restart_limit(max_attempts: int = MAX_ATTEMPTS) -> None:
    """Let the scheduler start a block at most so often, not for ever.

    Args:
        max_attempts: How often the process of a block may be started in one run.

    Raises:
        MageVersionUnknown: The installed Mage's scheduler has no such method.
    """
    from mage_ai.orchestration.pipeline_scheduler import PipelineScheduler

    if not hasattr(PipelineScheduler, _METHOD):
        raise MageVersionUnknown(
            "Mage's PipelineScheduler no longer looks for crashed block runs where it did, so restarts cannot "
            "be limited; use the Mage version of requirements.txt."
        )

    def crashed_block_runs(scheduler: Any) -> list[Any]:
        return [each for each in _without_process(scheduler) if _may_start_again(scheduler, each, max_attempts)]

    setattr(PipelineScheduler, _METHOD, crashed_block_runs)


def _without_process(scheduler: Any) -> list[Any]:
    """Block runs that should be queued or running and are not."""
    for block_run in scheduler.pipeline_run.block_runs:
        block_run.refresh()
    suspects = [each for each in scheduler.pipeline_run.block_runs if _lost(scheduler, each)]
    if not suspects:
        return []
    time.sleep(SECOND_LOOK_AFTER_SECONDS)
    for block_run in suspects:
        block_run.refresh()
    return [each for each in suspects if _lost(scheduler, each)]


def _lost(scheduler: Any, block_run: Any) -> bool:
    from mage_ai.orchestration.job_manager import get_job_manager

    if block_run.status.value not in ("queued", "running"):
        return False
    tags = scheduler.build_tags(block_run=block_run)
    return not get_job_manager().has_block_run_job(block_run.id, logger=scheduler.logger, logging_tags=tags)


def _may_start_again(scheduler: Any, block_run: Any, max_attempts: int) -> bool:
    """Count a death; put the block run back to the start, or fail it when that was its last attempt."""
    from mage_ai.orchestration.db.models.schedules import BlockRun

    metrics = dict(block_run.metrics or {})
    if block_run.status.value == "running":  # a queued one has not begun, so nothing of it died
        metrics[DEATHS] = metrics.get(DEATHS, 0) + 1
        block_run.update(metrics=metrics)
    deaths = metrics.get(DEATHS, 0)
    if deaths < max_attempts:
        log.warning(
            "block process gone",
            block=block_run.block_uuid,
            deaths=deaths,
            attempts_left=max_attempts - deaths,
        )
        block_run.update(status=BlockRun.BlockRunStatus.INITIAL)
        return True
    _fail(scheduler, block_run, deaths)
    return False


def _fail(scheduler: Any, block_run: Any, deaths: int) -> None:
    text = (
        f"The process of block {block_run.block_uuid} died {deaths} times before the block had finished, so it "
        "is not started again. Unless the stack was stopped meanwhile the memory ran out: see the kernel's log, lower "
        "queue_config.concurrency in metadata.yaml or give the block less to do, then start the pipeline again."
    )
    log.error("block failed after repeated death of its process", block=block_run.block_uuid, deaths=deaths)
    scheduler.on_block_failure(block_run.block_uuid, error={"error": text, "errors": [], "message": text})
    _write_to_log_of_block(scheduler, block_run, text)


def _write_to_log_of_block(scheduler: Any, block_run: Any, text: str) -> None:
    """Write where the UI shows it for the block, whose own process no longer can."""
    from mage_ai.data_preparation.logging.logger import DictLogger
    from mage_ai.data_preparation.logging.logger_manager_factory import LoggerManagerFactory
    from mage_ai.shared.utils import clean_name

    manager = LoggerManagerFactory.get_logger_manager(  # closes the file when it goes out of scope
        pipeline_uuid=scheduler.pipeline.uuid,
        block_uuid=clean_name(block_run.block_uuid),
        partition=scheduler.pipeline_run.execution_partition,
        repo_config=scheduler.pipeline.repo_config,
    )
    DictLogger(manager.logger).error(text, **scheduler.build_tags(block_run=block_run))
