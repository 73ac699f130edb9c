"""Program of the tests: jobs in Mage's real queue, each one put there when the one before it was done.

It runs in a process of its own, because Mage keeps its project and database for the life of a process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def job(done: Path) -> None:
    done.write_text(str(os.getppid()))


def main(project: str, folder: Path) -> None:
    from mage_ai.settings.repo import set_repo_path

    set_repo_path(project)
    from mage_ai.orchestration.queue.config import QueueConfig
    from mage_ai.orchestration.queue.process_queue import ProcessQueue

    from mage_platform.orchestration import worker_pool

    worker_pool._LOOK_EVERY_SECONDS = 1000.0  # whatever happens, happens because the pool was woken
    worker_pool.install_prompt_worker_pool()
    queue = ProcessQueue(QueueConfig(concurrency=4))
    queue.start()
    began = time.monotonic()
    for number in range(6):
        done = folder / f"done_{number}"
        queue.enqueue(f"job {number}", job, done)
        while not done.exists() or not done.read_text():
            time.sleep(0.01)
            if time.monotonic() - began > 40:
                raise SystemExit(f"job {number} was never run")
    pools = {(folder / f"done_{number}").read_text() for number in range(6)}
    print(json.dumps({"pools": len(pools)}), file=sys.__stderr__)
    queue.stop()
    queue.mp_manager.shutdown()
    for pool in pools:  # it would look again, and end, in a quarter of an hour
        os.kill(int(pool), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)
