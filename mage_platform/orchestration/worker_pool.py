"""Mage's pool of workers, woken by what it waits for instead of once a second.

Mage's own loop looks for jobs, sleeps a second and looks again, so every block waits half a second for its worker, and
starts more workers than there are jobs while the first one is still on its way to the queue. This one sleeps until a
job comes or a worker ends.
"""

from __future__ import annotations

import time
from multiprocessing.connection import wait
from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown

IDLE_SECONDS = 3.0
"""How long a pool without work stays: the next block usually comes at once, and a new pool is another fork."""
TAKEN_WITHIN_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 1.0


def install_prompt_worker_pool() -> None:
    """Replace the loop of Mage's pool of workers.

    Raises:
        MageVersionUnknown: The installed Mage's queue has no such loop.
    """
    from mage_ai.orchestration.queue import process_queue

    if not callable(getattr(process_queue, "poll_job_and_execute", None)):
        raise MageVersionUnknown(
            "Mage's process_queue has no poll_job_and_execute, so its pool of workers cannot be woken in time; "
            "use the Mage version of requirements.txt."
        )
    process_queue.poll_job_and_execute = run_jobs


def run_jobs(queue: Any, size: int, job_dict: Any, redis_client: Any, client_id: str) -> None:
    """Start a worker for each job until none has come for a while; the arguments are those of Mage's own loop.

    Args:
        queue: Where jobs come from; each worker takes its own.
        size: Most workers side by side.
        job_dict: What has become of each job.
        redis_client: Keeps this host known as alive, where several share one queue; None without.
        client_id: Name of this host.
    """
    from mage_ai.orchestration.queue.process_queue import LIVENESS_TIMEOUT_SECONDS, Worker

    workers: list[Any] = []
    busy = time.monotonic()
    while True:
        workers = [each for each in workers if each.is_alive()]
        if workers or not queue.empty():
            busy = time.monotonic()
        elif time.monotonic() - busy > IDLE_SECONDS:
            return
        started = [Worker(queue, job_dict) for _ in range(min(queue.qsize(), size - len(workers)))]
        for worker in started:
            worker.start()
        workers += started
        _await_taken(job_dict, started)
        if redis_client and client_id:
            redis_client.set(client_id, "1", ex=LIVENESS_TIMEOUT_SECONDS)
        news = [each.sentinel for each in workers] + ([queue._reader] if len(workers) < size else [])
        wait(news, timeout=_LOOK_EVERY_SECONDS)


def _await_taken(job_dict: Any, started: list[Any]) -> None:
    """Until fresh workers have taken their jobs, so that nobody else is started for them."""
    until = time.monotonic() + TAKEN_WITHIN_SECONDS
    while started and time.monotonic() < until:
        taken = set(job_dict.values())  # a worker enters its process there
        started = [each for each in started if each.is_alive() and each.pid not in taken]
        if started:
            time.sleep(0.01)
