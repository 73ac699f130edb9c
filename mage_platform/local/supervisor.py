"""A small supervisor: starts services, notices a death, stops them in reverse order, leaves nothing behind.

Each service is a process in a group of its own. The kernel signals it when the supervisor dies, so that even
`kill -9` of the supervisor ends everything; processes a service leaves behind are adopted and ended at the stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mage_platform.errors import ServiceFailed
from mage_platform.local import child, proc
from mage_platform.local.probes import Probe
from mage_platform.local.reporter import Reporter

LOG_KEPT_BYTES = 20 * 1024 * 1024
_NO_SPACE = "No space left on device"
_ALARMING = re.compile(r"FATAL|PANIC|ERROR|CRITICAL|Error\b|Exception|[Cc]annot|[Ff]ailed|refuse|denied|No space")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of the stack: how it is started, known to be ready, and stopped."""

    name: str
    argv: tuple[str, ...]
    """Command line; never a password in it, everybody on the machine can read it."""
    address: str
    """What a reader is told about where it answers."""
    ready: Probe
    environment: Mapping[str, str]
    """All the process gets; nothing is inherited."""
    folder: Path
    """Working folder."""
    level: int
    """Services of a higher level are stopped first; those of one level side by side."""
    start_timeout_seconds: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 10.0
    signal_whole_group: bool = False
    """True sends the stop signal to all processes of its group, not only to the first."""
    as_nobody: bool = False
    """True runs it in a private user namespace in which root is `nobody`."""
    start_again_when: str = ""
    """Text in the log of a failed start after which it is worth while to try again until the timeout."""


@dataclass
class _Running:
    service: Service
    process: asyncio.subprocess.Process
    log: Path
    log_start: int
    exit: asyncio.Task[int]


class Supervisor:
    """Keeps services running. Use it on an event loop in the main thread.

    Args:
        logs: Folder of the log files, `<name>.log` each.
        reporter: Told about each service that became ready or stopped.
        spawned: Called with each process that was started, before it is ready.
    """

    def __init__(self, logs: Path, reporter: Reporter, spawned: Callable[[Service, int], None]) -> None:
        self._logs = logs
        self._reporter = reporter
        self._spawned = spawned
        self._running: dict[str, _Running] = {}
        self._stopping = False
        self._deaths: asyncio.Queue[ServiceFailed] = asyncio.Queue()
        child.adopt_orphans()

    async def start(self, *services: Service) -> None:
        """Start services side by side and return when all are ready.

        Raises:
            ServiceFailed: One ended, or was not ready in time. The others started with it are left to `stop`.
        """
        await side_by_side(*(self._start(service) for service in services))

    async def death(self) -> ServiceFailed:
        """Wait until a service that was ready dies, and tell which and why."""
        return await self._deaths.get()

    async def stop(self) -> None:
        """Stop everything, highest level first, then end whatever processes the services left behind."""
        self._stopping = True
        levels = sorted({running.service.level for running in self._running.values()}, reverse=True)
        for level in levels:
            batch = [running for running in self._running.values() if running.service.level == level]
            await asyncio.gather(*(self._stop(running) for running in batch))
        self._running.clear()
        await _end_adopted()

    async def _start(self, service: Service) -> None:
        began = time.monotonic()
        deadline = began + service.start_timeout_seconds
        running = await self._spawn(service)
        pause = 0.02
        while not await service.ready():
            if running.exit.done():
                if not self._may_start_again(running) or time.monotonic() > deadline:
                    raise ServiceFailed(self._obituary(running, "did not start"))
                await asyncio.sleep(0.3)
                running = await self._spawn(service)
            if time.monotonic() > deadline:
                waited = f"was not ready within {service.start_timeout_seconds:.0f} s"
                raise ServiceFailed(self._obituary(running, waited))
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        if running.exit.done():  # something else answered on its port
            raise ServiceFailed(self._obituary(running, "did not start"))
        running.exit.add_done_callback(lambda _: self._died(running))
        self._reporter.ready(service.name, service.address, time.monotonic() - began)

    async def _spawn(self, service: Service) -> _Running:
        log = self._logs / f"{service.name}.log"
        _keep_short(log)
        prepare = child.preparation(stop_signal=service.stop_signal, as_nobody=service.as_nobody)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            log_start = os.fstat(descriptor).st_size
            process = await asyncio.create_subprocess_exec(
                *service.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=service.folder,
                env=dict(service.environment),
                preexec_fn=prepare,
            )
        except OSError as error:
            raise ServiceFailed(f"{service.name} cannot be started: {error}") from error
        finally:
            os.close(descriptor)
        running = _Running(service, process, log, log_start, asyncio.create_task(process.wait()))
        self._running[service.name] = running
        self._spawned(service, process.pid)
        return running

    async def _stop(self, running: _Running) -> None:
        service, process = running.service, running.process
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            if not running.exit.done():
                _signal(process.pid, service.stop_signal, whole_group=service.signal_whole_group)
        await asyncio.wait({running.exit}, timeout=service.stop_timeout_seconds)
        late = not running.exit.done()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what is left of the group after a clean end
        await running.exit
        self._reporter.stopped(service.name, time.monotonic() - began, killed=late)

    def _may_start_again(self, running: _Running) -> bool:
        text = running.service.start_again_when
        return bool(text) and text in _since(running.log, running.log_start)

    def _died(self, running: _Running) -> None:
        if not self._stopping:
            self._deaths.put_nowait(ServiceFailed(self._obituary(running, "died")))

    def _obituary(self, running: _Running, verb: str) -> str:
        code = running.exit.result() if running.exit.done() else None
        if code == -signal.SIGKILL:  # its log cannot know
            return (
                f"{running.service.name} {verb}: it was ended by SIGKILL, by hand or by the kernel for lack of memory. "
                f"What is stored is safe: the same command starts again. Its log is {running.log}"
            )
        how = "" if code is None else f" ({_exit_in_words(code)})"
        said = " | ".join(_last_words(_since(running.log, running.log_start)))
        cure = ". Free some space on that disk; the same command then starts again" if _NO_SPACE in said else ""
        return f"{running.service.name} {verb}{how}; {running.log} says: {said or 'nothing'}{cure}"


async def side_by_side(*work: Coroutine[Any, Any, None]) -> None:
    """Run all at the same time; at the first failure cancel the others and raise it."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _signal(pid: int, number: signal.Signals, *, whole_group: bool) -> None:
    if whole_group:
        os.killpg(pid, number)
    else:
        os.kill(pid, number)


def _exit_in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _since(log: Path, start: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 64 * 1024) if size >= start else 0)
        return file.read().decode(errors="replace")
    return ""


def _last_words(text: str) -> list[str]:
    """The alarming lines at the end of a log, or its very last lines where none is alarming.

    >>> _last_words("starting\\nFATAL:  no disk\\nbye\\n")
    ['FATAL:  no disk']
    >>> _last_words("one\\n\\ntwo\\n")
    ['one', 'two']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    alarming = [line for line in lines[-40:] if _ALARMING.search(line)]
    return [line[:300] for line in (alarming or lines)[-2:]]


def _keep_short(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_KEPT_BYTES:
            log.replace(log.with_suffix(".log.1"))


async def _end_adopted() -> None:
    """End processes that services left behind and that became children of this one."""
    for attempt in range(40):
        left = list(_reap_adopted())
        if not left:
            return
        if attempt in (0, 30):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM if attempt == 0 else signal.SIGKILL)
        await asyncio.sleep(0.1)


def _reap_adopted() -> Iterator[int]:
    for pid in proc.children_of(os.getpid()):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                yield pid
