"""Program of the tests: jobs in Mage's real queue, each one put there when the one before it was done.

It runs in a process of its own, because Mage keeps its project and database for the life of a process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def job(done: Path) -> None:
    done.write_text(str(os.getppid()))


def main(project: str, whose: str, folder: Path) -> None:
    from mage_ai.settings.repo import set_repo_path

    set_repo_path(project)
    from mage_ai.orchestration.queue.config import QueueConfig
    from mage_ai.orchestration.queue.process_queue import ProcessQueue

    from mage_platform.orchestration.worker_pool import install_prompt_worker_pool

    if whose == "ours":
        install_prompt_worker_pool()
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
    seconds = time.monotonic() - began
    pools = {(folder / f"done_{number}").read_text() for number in range(6)}
    print(json.dumps({"seconds": seconds, "pools": len(pools)}), file=sys.__stderr__)
    queue.stop()
    queue.mp_manager.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.stderr.flush()
    os._exit(0)
