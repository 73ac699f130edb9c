"""Guards around traps in Mage's scheduler, installed by the server and by the run without a server alike.

Each replaces a method of Mage's at run time, so each refuses a Mage that does not have it rather than do
nothing.
"""

from __future__ import annotations

import functools
import multiprocessing
from typing import Any

import structlog

from mage_platform.orchestration.backfill_window import give_backfills_their_window
from mage_platform.orchestration.block_run_creation import leave_block_runs_to_scheduler
from mage_platform.orchestration.inherited_connections import install_connection_guard
from mage_platform.orchestration.kept_reason import install_reason_keeper
from mage_platform.orchestration.refusals import MageVersionUnknown
from mage_platform.orchestration.restart_limit import install_restart_limit
from mage_platform.orchestration.worker_pool import install_prompt_worker_pool

LOCK_ABANDONED_AFTER_SECONDS = 1.0

log = structlog.get_logger(__name__)


def install_guards() -> None:
    """Install every guard. Call once, after Mage knows its project and before its scheduler starts."""
    install_connection_guard()
    install_lost_wakeup_guard()
    install_prompt_worker_pool()
    install_restart_limit()
    install_reason_keeper()
    leave_block_runs_to_scheduler()
    give_backfills_their_window()


def install_lost_wakeup_guard() -> None:
    """Start a new worker pool when a job waits and no pool is alive.

    Mage's pool of workers ends when it is idle. A job that is queued during that end finds the pool still
    alive, so nobody starts another one, and the job waits until some later job comes along: a run stands
    still without an error. `clean_up_jobs` is called at the end of every round of the scheduler, which makes
    it the place to look.

    Raises:
        MageVersionUnknown: The installed Mage's queue has no such method.
    """
    from mage_ai.orchestration.queue.process_queue import ProcessQueue

    original = getattr(ProcessQueue, "clean_up_jobs", None)
    if original is None:
        raise MageVersionUnknown(
            "Mage's ProcessQueue has no clean_up_jobs, so the lost wake-up cannot be guarded against; "
            "use the Mage version of requirements.txt."
        )
    if getattr(original, "guards_lost_wakeup", False):
        return

    @functools.wraps(original)
    def clean_up_jobs(queue: Any) -> None:
        original(queue)
        revive_worker_pool(queue)

    clean_up_jobs.guards_lost_wakeup = True  # type: ignore[attr-defined]
    ProcessQueue.clean_up_jobs = clean_up_jobs


def revive_worker_pool(queue: Any) -> bool:
    """Start a worker pool for jobs that nobody would run.

    Args:
        queue: Mage's ProcessQueue.

    Returns:
        True when there was such a job.
    """
    if queue.queue.empty() or queue.is_worker_pool_alive():
        return False
    log.warning("worker pool was gone while a job waited; started another", jobs=len(queue.job_dict))
    _replace_abandoned_lock(queue.queue)
    queue.start_worker_pool()
    return True


def _replace_abandoned_lock(jobs: Any) -> None:
    """A worker that was killed while it waited for a job took the right to read the queue with it.

    No pool is alive, so no worker is either, and nobody else reads: a lock that is still held is held by
    nobody.
    """
    if jobs._rlock.acquire(timeout=LOCK_ABANDONED_AFTER_SECONDS):
        jobs._rlock.release()
    else:
        jobs._rlock = multiprocessing.Lock()
