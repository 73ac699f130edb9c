"""The local stack as a whole: which services, in which order, with which settings.

    postgres ── pgbouncer ── migrations ──┬── mage
                                          └── sidecar
    valkey, h2o  (start beside the database)

`run_stack` is `mage-platform up`; `running` (in `embedded`) is the same stack for the length of a test;
`find_running` and `status` tell other commands what runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from mage_platform.errors import PlatformError
from mage_platform.local import postgres, proc, state_folder
from mage_platform.local.embedded import running
from mage_platform.local.first_signing import sign_once
from mage_platform.local.h2o_server import h2o_service, trains_here
from mage_platform.local.java import Java, find_java
from mage_platform.local.lookup import (
    ALL,
    ServiceStatus,
    direct_database,
    effective_settings,
    find_running,
    status,
    with_absolute_folder,
)
from mage_platform.local.mage import mage_service
from mage_platform.local.passwords import Passwords, keep_passwords
from mage_platform.local.pgbouncer import find_pgbouncer, pgbouncer_service
from mage_platform.local.ports import needed_ports, require_free, require_room
from mage_platform.local.reporter import LineReporter, Reporter
from mage_platform.local.sidecar import sidecar_service
from mage_platform.local.state_folder import ServiceNote, StackNote
from mage_platform.local.supervisor import Service, Supervisor, side_by_side
from mage_platform.local.surroundings import without_secrets
from mage_platform.local.valkey import valkey_service
from mage_platform.local.work import WorkerThread, stop_wished
from mage_platform.settings import Settings

__all__ = ["ALL", "ServiceStatus", "Stack", "direct_database", "find_running", "run_stack", "running", "status"]

T = TypeVar("T")


class Stack:
    """The services of one state folder, started and stopped together.

    Use it in the main thread, on an event loop, and with the state folder held.

    Args:
        settings: Ports and folders.
        services: Names out of `ALL`.
        reporter: Told about each step.
        migrate: Whether to bring the platform's tables up to date between the database and the rest.
    """

    def __init__(
        self, settings: Settings, services: Collection[str], reporter: Reporter, *, migrate: bool = True
    ) -> None:
        self._given = with_absolute_folder(settings)
        self._wanted = set(services)
        self._reporter = reporter
        self._migrate = migrate
        self._supervisor = Supervisor(self._given.state_folder / "logs", reporter, self._write_down)
        self._note = StackNote(pid=os.getpid(), settings={}, postgres_port=settings.database.port)

    async def start(self) -> Settings:
        """Start everything and return the settings under which it is reached.

        Raises:
            PlatformError: What is wrong and what cures it, in one line.
        """
        given, wanted = self._given, self._wanted
        pooler = find_pgbouncer(given) if "pgbouncer" in wanted else None
        if "pgbouncer" in wanted and pooler is None:
            wanted.discard("pgbouncer")
            self._reporter.note(_why_no_pgbouncer(given))
        if "h2o" in wanted and not trains_here(given):
            wanted.discard("h2o")
            self._reporter.note(f"no local H2O is started: training uses the one at {given.h2o.url}")
        require_free(needed_ports(given, wanted))
        require_room(given.state_folder, first_start=not postgres.data_folder(given).exists())
        java = await asyncio.to_thread(find_java) if wanted & {"h2o", "mage", "sidecar"} else None
        passwords = keep_passwords(given)
        effective = effective_settings(given, passwords, through_pgbouncer=pooler is not None)
        self._note.settings = without_secrets(effective)
        self._note.java_home = str(java.home) if java else None
        await side_by_side(
            self._start_database_and_applications(passwords, pooler, effective, java),
            self._start_beside_database(java),
        )
        return effective

    async def death(self) -> PlatformError:
        """Wait until a service dies, and tell which and why."""
        return await self._supervisor.death()

    async def stop(self) -> None:
        """Stop everything in reverse order. Nothing is left behind."""
        await self._supervisor.stop()

    async def _start_database_and_applications(
        self, passwords: Passwords, pooler: Path | None, effective: Settings, java: Java | None
    ) -> None:
        await self._start_database(passwords, pooler, effective)
        await self._start_applications(effective, passwords, java)

    async def _start_database(self, passwords: Passwords, pooler: Path | None, effective: Settings) -> None:
        given = self._given
        if "postgres" not in self._wanted:
            return
        await asyncio.to_thread(postgres.prepare_data_folder, given, passwords)
        await self._supervisor.start(postgres.postgres_service(given, passwords))
        await asyncio.to_thread(postgres.provision, given, passwords)
        if "mage" in self._wanted and await asyncio.to_thread(_mend_owner_password, given, passwords):
            self._reporter.note(f"the secret of {given.mage.owner_email} is a new one: the Mage login has it now")
        if pooler:
            await self._supervisor.start(pgbouncer_service(given, passwords, pooler))
        if self._migrate:
            await asyncio.to_thread(_apply_migrations, effective)
            for sentence in await asyncio.to_thread(sign_once, effective):
                self._reporter.note(sentence)

    async def _start_beside_database(self, java: Java | None) -> None:
        services = [valkey_service(self._given)] if "valkey" in self._wanted else []
        if "h2o" in self._wanted and java:
            services.append(h2o_service(self._given, java))
        await self._supervisor.start(*services)

    async def _start_applications(self, effective: Settings, passwords: Passwords, java: Java | None) -> None:
        services = [mage_service(effective, passwords, java)] if "mage" in self._wanted else []
        if "sidecar" in self._wanted and java:
            services.append(sidecar_service(effective, java))
        await self._supervisor.start(*services)

    def _write_down(self, service: Service, pid: int) -> None:
        log = str(self._given.state_folder / "logs" / f"{service.name}.log")
        kept = [note for note in self._note.services if note.name != service.name]
        self._note.services = [
            *kept,
            ServiceNote(service.name, pid, proc.started_at(pid), service.address, log),
        ]
        state_folder.write_note(self._given.state_folder, self._note)


def run_stack(
    settings: Settings,
    *,
    services: Collection[str] = ALL,
    on_ready: Callable[[Settings], None],
    reporter: Reporter | None = None,
    migrate: bool = True,
    stop_with_parent: bool = False,
) -> int:
    """Start the stack, run `on_ready` beside it, and stay until Ctrl-C, SIGTERM or the death of a service.

    Call it from the main thread of a process of its own.

    Args:
        settings: Ports and folders.
        services: Names out of `ALL`.
        on_ready: Called once in a thread, with the settings under which the stack is reached. At a stop it is
            interrupted by KeyboardInterrupt. What it raises stops the stack.
        reporter: Told about each step; plain lines by default.
        migrate: Whether to bring the platform's tables up to date before the applications start.
        stop_with_parent: Stop when the process that started this one ends.

    Returns:
        Exit code: 0 after a wished stop, 1 after a failure, which the reporter was told.
    """
    reporter = reporter or LineReporter()
    settings = with_absolute_folder(settings)
    try:
        with state_folder.held(settings.state_folder):
            stack = Stack(settings, services, reporter, migrate=migrate)
            return asyncio.run(_live(stack, on_ready, reporter, stop_with_parent=stop_with_parent))
    except PlatformError as error:
        reporter.failed(str(error))
        return 1
    except OSError as error:  # the disk is full, or the state folder cannot be written
        reporter.failed(f"{error}: mend it, or set PLATFORM_STATE_FOLDER to another folder")
        return 1
    except KeyboardInterrupt:  # before the first process was started
        return 0


async def _live(
    stack: Stack, on_ready: Callable[[Settings], None], reporter: Reporter, *, stop_with_parent: bool
) -> int:
    stop = asyncio.create_task(stop_wished(with_parent=stop_with_parent))
    service = asyncio.create_task(_serve(stack, on_ready))
    try:
        await asyncio.wait((stop, service), return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            service.result()
        reporter.note("stopping")
        return 0
    except PlatformError as error:
        reporter.failed(str(error))
        return 1
    finally:
        service.cancel()
        await asyncio.wait({service})
        await stack.stop()
        stop.cancel()


async def _serve(stack: Stack, on_ready: Callable[[Settings], None]) -> None:
    """Start, run `on_ready`, wait for a death; ends only by raising."""
    death = asyncio.create_task(stack.death())
    try:
        settings = await _unless_death(asyncio.create_task(stack.start()), death)
        work = WorkerThread(on_ready, settings)
        try:
            await _unless_death(work.finished, death)
        finally:
            await work.interrupt()
        raise await death
    finally:
        death.cancel()


async def _unless_death(work: asyncio.Future[T], death: asyncio.Future[PlatformError]) -> T:
    """What the work gives, unless a service dies meanwhile."""
    try:
        await asyncio.wait((work, death), return_when=asyncio.FIRST_COMPLETED)
        if work.done() and work.exception():
            # what broke the work may be a death that is noticed a moment later, and says more
            await asyncio.wait((death,), timeout=0.5)
        if death.done():
            raise death.result()
        return work.result()
    finally:
        if not work.done() and isinstance(work, asyncio.Task):
            work.cancel()
            await asyncio.wait((work,))


def _apply_migrations(settings: Settings) -> None:
    from mage_platform.provisioning.tables import bring_up_to_date

    bring_up_to_date(settings)


def _mend_owner_password(settings: Settings, passwords: Passwords) -> bool:
    from mage_platform.local.mage_owner import mend_owner_password

    return mend_owner_password(settings, passwords)


def _why_no_pgbouncer(settings: Settings) -> str:
    if not settings.pgbouncer.enabled:
        return "PgBouncer is switched off (PLATFORM_PGBOUNCER__ENABLED=false): connecting to PostgreSQL directly"
    return (
        "PgBouncer is not installed: connecting to PostgreSQL directly (production must not; to have it here, "
        "install the package pgbouncer)"
    )
