"""Program of the tests: strand a job in Mage's real queue, then let the guarded clean-up have a look.

It runs in a process of its own, because Mage keeps its project and database for the life of a process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def job(done: Path) -> None:
    done.write_text("done")


def pause() -> None:
    time.sleep(600)


def hold_lock(lock: Any) -> None:
    lock.acquire()
    time.sleep(600)


def wait_for(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def main(project: str, how_the_pool_ends: str, done: Path) -> None:
    from mage_ai.settings.repo import set_repo_path

    set_repo_path(project)
    from mage_ai.orchestration.queue.config import QueueConfig
    from mage_ai.orchestration.queue.process_queue import ProcessQueue

    from mage_platform.orchestration.guard import install_lost_wakeup_guard

    queue = ProcessQueue(QueueConfig(concurrency=1))
    queue.start()
    queue.enqueue("first", pause)
    wait_for(lambda: isinstance(queue.job_dict.get("first"), int), 20)
    first = queue.job_dict["first"]
    pool = queue.worker_pool_proc
    os.kill(pool.pid, signal.SIGSTOP)  # a pool about to end: alive, and looking for no more jobs
    queue.enqueue("stranded", job, done)
    os.kill(pool.pid, signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    pool.join()
    if how_the_pool_ends == "holding_the_lock":
        holder = multiprocessing.Process(target=hold_lock, args=(queue.queue._rlock,))
        holder.start()
        wait_for(lambda: not _free(queue.queue._rlock), 10)
        holder.kill()
        holder.join()

    queue.clean_up_jobs()
    left_alone = not wait_for(done.exists, 3)
    install_lost_wakeup_guard()
    queue.clean_up_jobs()
    print(json.dumps({"left_alone": left_alone, "done": wait_for(done.exists, 15)}), file=sys.__stderr__)
    queue.stop()
    queue.mp_manager.shutdown()


def _free(lock: Any) -> bool:
    if lock.acquire(block=False):
        lock.release()
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.stderr.flush()
    os._exit(0)
