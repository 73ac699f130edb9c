"""Several sidecars on one port: a parent that listens, starts workers, and starts those anew that die.

The parent opens the listening socket and hands it to every worker: what waits to be accepted belongs to none of them,
so a worker that dies takes only the requests it is answering with it. Workers are new processes, never forks of one
with a JVM; the parent has none. Each worker holds one end of a pipe, its lifeline, and stops when the parent is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

log = structlog.get_logger()
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
GOOD_LIFE_SECONDS = 60.0
"""A worker that lived so long is started again without much of a pause."""
LOOK_SECONDS = 0.1
CANNOT_START = 2


@dataclass
class _Worker:
    """One place for a worker, and who is in it."""

    index: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_seconds: float = 0.0
    start_at: float = 0.0


class Workers:
    """The parent of the workers.

    Args:
        listener: Bound, and not yet accepting.
        count: How many workers.
        drain_seconds: How long a worker may answer what is under way after it was asked to stop.
        command: Starts a worker, to which its arguments are added; this module's sidecar when left out.
    """

    def __init__(
        self, listener: socket.socket, count: int, drain_seconds: float, command: Sequence[str] | None = None
    ) -> None:
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._command = list(command or (sys.executable, "-m", "serving"))
        self._workers = [_Worker(index) for index in range(count)]
        self._lifeline, self._own_end = os.pipe()  # our end closes with this process, however that ends
        self._asked_to_stop = False

    def run(self) -> int:
        """Keep the workers alive until SIGTERM or Ctrl-C, then let them drain.

        Returns:
            0 after a stop that was asked for; 2 when a worker cannot start, which has said why.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        self._listener.listen(2048)  # from now on nobody is refused, whoever is up
        code = 0
        while not self._asked_to_stop and code == 0:
            code = max(self._look_after(worker) for worker in self._workers)
            time.sleep(LOOK_SECONDS)
        self._stop_all()
        return code

    def _ask_to_stop(self, *_: object) -> None:
        self._asked_to_stop = True

    def _look_after(self, worker: _Worker) -> int:
        now = time.monotonic()
        if worker.process is None:
            if now >= worker.start_at:
                self._start(worker)
            return 0
        code = worker.process.poll()
        if code is None:
            return 0
        worker.process = None
        if code == CANNOT_START:
            return code  # settings or a taken port: it would fail again
        good = now - worker.started >= GOOD_LIFE_SECONDS
        pause = FIRST_PAUSE_SECONDS if good else worker.pause_seconds * 2
        worker.pause_seconds = min(max(pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        worker.start_at = now + worker.pause_seconds
        log.error("worker died", worker=worker.index, exit_code=code, starts_again_in_seconds=worker.pause_seconds)
        return 0

    def _start(self, worker: _Worker) -> None:
        inherited = (self._listener.fileno(), self._lifeline)
        own = ["--worker", str(worker.index), "--listener", str(inherited[0]), "--lifeline", str(inherited[1])]
        worker.process = subprocess.Popen([*self._command, *own], pass_fds=inherited)
        worker.started = time.monotonic()
        log.info("worker started", worker=worker.index, pid=worker.process.pid)

    def _stop_all(self) -> None:
        living = [worker.process for worker in self._workers if worker.process is not None]
        self._listener.close()
        for process in living:
            process.terminate()
        until = time.monotonic() + self._drain_seconds
        for process in living:
            try:
                process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker killed", pid=process.pid, reason="it did not end in time")
                process.kill()
                process.wait()


def stop_with(lifeline: int) -> None:
    """Let this worker end as by SIGTERM when its parent is gone.

    Args:
        lifeline: File descriptor of the reading end of the parent's pipe, to which nothing is ever written.
    """

    def wait() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
