"""PgBouncer as in production: who gets in, a thousand clients on twenty connections, and servers killed under load."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from psycopg import sql

from mage_platform.contracts import UseCase
from mage_platform.database import connect
from mage_platform.errors import DatabaseUnavailable, ServiceFailed
from mage_platform.features.ingest import ingest
from mage_platform.features.vectors import build_vectors
from mage_platform.local import child, state_folder
from mage_platform.local.embedded import on_free_ports, running
from mage_platform.local.lookup import direct_database
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.pgbouncer import find_pgbouncer, pgbouncer_service
from mage_platform.settings import Settings, load_settings
from mage_platform.sources import load_rows
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo

BINARY = find_pgbouncer(load_settings())
CLIENTS = 980  # under the limit of 1,000, with room for those that count and look
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BINARY is None, reason="the binary pgbouncer is not installed"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A use case to ingest."""
    demo.write_use_case(tmp_path / "use_cases")
    return tmp_path / "use_cases"


@pytest.fixture
def superuser(pooled_settings: Settings) -> Iterator[psycopg.Connection]:
    """Past PgBouncer, in the platform's database."""
    direct = direct_database(pooled_settings).database
    password = keep_passwords(pooled_settings).postgres_superuser.get_secret_value()
    place = dict(host=direct.host, port=direct.port, dbname=direct.name)
    with psycopg.connect(**place, user="postgres", password=password, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(superuser: psycopg.Connection) -> Iterator[str]:
    """Name and password of a role made after PgBouncer was started, as settings would hold them."""
    name = f"guest_{secrets.token_hex(4)}"
    superuser.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(name)))
    yield name
    superuser.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def _connect(settings: Settings, user: str, password: str) -> psycopg.Connection:
    database = settings.database
    return psycopg.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=user,
        password=password,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=10,
    )


def test_a_role_pgbouncer_never_heard_of_is_looked_up_in_postgresql(
    pooled_settings: Settings, superuser: psycopg.Connection, role: str
) -> None:
    assert role not in (pooled_settings.state_folder / "pgbouncer" / "users.txt").read_text()
    with _connect(pooled_settings, role, role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        client = connection.execute("SELECT inet_client_port(), pg_backend_pid()").fetchone()
        assert client is not None
        assert connection.info.backend_pid != client[1], "it went past PgBouncer"
    verifier = superuser.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()
    assert verifier is not None
    assert verifier[0].startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("change", ["wrong password", "no such role", "superuser", "expired"])
def test_nobody_else_gets_in(pooled_settings: Settings, superuser: psycopg.Connection, role: str, change: str) -> None:
    user, password = role, role
    if change == "wrong password":
        password = "wrong"
    elif change == "no such role":
        user = "nobody_at_all"
    elif change == "superuser":
        user, password = "postgres", keep_passwords(pooled_settings).postgres_superuser.get_secret_value()
    else:
        superuser.execute(sql.SQL("ALTER ROLE {} VALID UNTIL '2020-01-01'").format(sql.Identifier(role)))
    with pytest.raises(psycopg.OperationalError, match=r"(?i)auth|password|no such user"):
        _connect(pooled_settings, user, password)


def test_a_thousand_clients_on_twenty_connections_all_get_their_own_answer(pooled_settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1100:
        pytest.skip(f"this machine allows {hard} open files, and a thousand clients need 1,100")
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        answers = asyncio.run(_ask_side_by_side(pooled_settings))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [answer[:2] for answer in answers] == [(number, f"client {number}") for number in range(CLIENTS)]
    assert len({answer[2] for answer in answers}) <= 25


async def _ask_side_by_side(settings: Settings) -> list[tuple[int, str, int]]:
    """All are connected before the first one asks."""
    opening = asyncio.Semaphore(50)
    opened = 0
    all_there = asyncio.Event()

    async def ask(number: int) -> tuple[int, str, int]:
        nonlocal opened
        async with opening:
            connection = await psycopg.AsyncConnection.connect(
                settings.database_url(), autocommit=True, prepare_threshold=None, connect_timeout=60
            )
        async with connection:
            opened += 1
            if opened == CLIENTS:
                all_there.set()
            await asyncio.wait_for(all_there.wait(), 120)
            async with connection.transaction():
                await connection.execute("SELECT set_config('test.client', %s, true)", [f"client {number}"])
                question = "SELECT %s::int, current_setting('test.client'), pg_backend_pid() FROM pg_sleep(0.005)"
                row = await (await connection.execute(question, [number])).fetchone()
            assert row is not None
            return row

    return await asyncio.gather(*map(ask, range(CLIENTS)))


def test_who_idles_in_a_transaction_is_cut_off_and_the_others_go_on(
    pooled_settings: Settings, superuser: psycopg.Connection, role: str
) -> None:
    timeout = sql.SQL("ALTER ROLE {} SET idle_in_transaction_session_timeout = '700ms'")
    superuser.execute(timeout.format(sql.Identifier(role)))
    idle = [_connect(pooled_settings, role, role) for _ in range(25)]  # every connection of its pool
    for connection in idle[:20]:
        connection.execute("BEGIN")
    with _connect(pooled_settings, role, role) as other:
        began = time.monotonic()
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert time.monotonic() - began < 20
    time.sleep(1.0)  # until the last of them has been idle for too long
    for connection in idle[:20]:
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            connection.execute("SELECT 1")
    for connection in idle:
        connection.close()


def test_the_platforms_own_role_has_such_a_limit(pooled_settings: Settings) -> None:
    with connect(pooled_settings) as connection:
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("1min",)


def test_what_one_transaction_sets_is_gone_in_the_next(pooled_settings: Settings, folder: Path) -> None:
    """The platform's code leaves no setting, no temporary table and no lock on the connections it shares."""
    settings = pooled_settings.model_copy(update={"use_cases_folder": folder})
    use_case = load_use_case(settings, demo.NAME)
    vectors = build_vectors(settings, use_case, load_rows(settings, use_case))
    for _ in range(3):
        with connect(settings) as connection:
            ingest(connection, use_case, vectors)
    question = (
        "SELECT (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'application_name' "
        "AND name NOT IN ('client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')), "
        "(SELECT count(*) FROM pg_class WHERE relpersistence = 't'), "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
    )
    for _ in range(20):
        with connect(settings) as connection:
            assert connection.execute(question).fetchone() == (0, 0, 0)


# --- servers that are killed -----------------------------------------------------------------------------------------


@dataclass
class Load:
    """Ingests that are repeated until acknowledged, and reads that hold what was acknowledged against the table."""

    settings: Settings
    use_case: UseCase
    batches: list[pd.DataFrame]
    acknowledged: list[int] = field(default_factory=list)
    reads: int = 0
    outages: int = 0
    wrong: list[object] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Each batch until it is acknowledged; one may have been committed without its answer getting through."""
        for number, batch in enumerate(self.batches):
            while not self._try(lambda batch=batch: self._ingest(batch)):  # type: ignore[misc]
                time.sleep(0.05)
            self.acknowledged.append(number)
        self.done.set()

    def read(self) -> None:
        """All that was acknowledged before the question is in the answer, and no batch is there in part."""
        while not self.done.is_set():
            self._try(self._check)

    def _ingest(self, batch: pd.DataFrame) -> None:
        with connect(self.settings) as connection:
            ingest(connection, self.use_case, batch)

    def _check(self) -> None:
        known = len(self.acknowledged)
        size = len(self.batches[0])
        with connect(self.settings) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM platform.features), (SELECT count(*) FROM platform.labels)"
            ).fetchone()
        assert row is not None
        if row[0] != row[1] or row[0] % size or not known <= row[0] // size <= len(self.acknowledged) + 1:
            self.wrong.append((known, row))
        self.reads += 1

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except (DatabaseUnavailable, psycopg.OperationalError):
            self.outages += 1
            time.sleep(0.05)
            return False
        except BaseException as error:
            self.wrong.append(error)
            self.done.set()
            raise
        return True

    def run(self, disturb: Callable[[], None]) -> None:
        """Write and read while servers are killed."""
        threads = [threading.Thread(target=self.write), *(threading.Thread(target=self.read) for _ in range(3))]
        for thread in threads:
            thread.start()
        try:
            disturb()
        finally:
            threads[0].join(120)
            self.done.set()
            for thread in threads[1:]:
                thread.join(30)
        assert not self.wrong
        assert self.acknowledged == list(range(len(self.batches)))
        assert self.reads > 5
        assert self.outages > 0, "no call noticed the outage"
        self._check()
        assert not self.wrong


def _load(settings: Settings, folder: Path, batches: int) -> Load:
    settings = settings.model_copy(update={"use_cases_folder": folder})
    use_case = load_use_case(settings, demo.NAME)
    rows = pd.concat(
        [
            demo.ride_rows(cities=("Bern",), rows_a_city=200, seed=number).assign(
                ride=[f"{number}-{ride}" for ride in range(200)], rain_millimetres=1.0
            )
            for number in range(batches)
        ],
        ignore_index=True,
    )
    vectors = build_vectors(settings, use_case, rows)
    return Load(settings, use_case, [vectors.iloc[first : first + 200] for first in range(0, len(vectors), 200)])


def test_pgbouncer_killed_and_started_again_under_load_loses_and_halves_nothing(
    settings: Settings, database_server: Settings, tmp_path: Path, folder: Path
) -> None:
    """A PgBouncer of the test's own, before a database of the test's own."""
    pooled = _beside(settings, database_server, tmp_path)
    load = _load(pooled, folder, 80)
    process = _start_pgbouncer(settings, pooled)

    def disturb() -> None:
        nonlocal process
        for _ in range(3):
            time.sleep(0.6)
            process.kill()
            process.wait()
            time.sleep(0.2)
            process = _start_pgbouncer(settings, pooled)

    try:
        load.run(disturb)
    finally:
        process.kill()
        process.wait()


def _beside(settings: Settings, server: Settings, folder: Path) -> Settings:
    state = folder / "second-pooler"
    (state / "secrets").mkdir(parents=True)
    for secret in (server.state_folder / "secrets").iterdir():
        (state / "secrets" / secret.name).write_bytes(secret.read_bytes())
    port = on_free_ports(settings).pgbouncer.port
    return settings.model_copy(
        update={
            "state_folder": state,
            "database": settings.database.model_copy(update={"port": port, "through_pgbouncer": True}),
            "pgbouncer": settings.pgbouncer.model_copy(update={"port": port}),
        }
    )


def _start_pgbouncer(direct: Settings, pooled: Settings) -> subprocess.Popen[bytes]:
    assert BINARY is not None
    place = pooled.model_copy(update={"database": direct.database})
    service = pgbouncer_service(place, keep_passwords(place), BINARY)
    process = subprocess.Popen(
        service.argv,
        env=dict(service.environment),
        cwd=service.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=child.preparation(stop_signal=None, as_nobody=service.as_nobody),
    )
    deadline = time.monotonic() + 10
    while not asyncio.run(service.ready()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_postgresql_killed_and_started_again_under_load_loses_and_halves_nothing(tmp_path: Path, folder: Path) -> None:
    """The stack of the same state folder is started again after kill -9; addresses stay the same."""
    given = on_free_ports(load_settings(state_folder=tmp_path / "state"))
    with running(given, ("postgres", "pgbouncer"), migrate=True, free_ports=False) as settings:
        load = _load(settings, folder, 60)
        again = threading.Event()
        finished = threading.Event()

        def disturb() -> None:
            time.sleep(0.8)
            _kill_postgres(settings)
            again.set()

        def restart() -> None:
            again.wait(60)
            _await_stack_gone(settings)
            with running(given, ("postgres", "pgbouncer"), migrate=True, free_ports=False):
                finished.wait(150)

        second = threading.Thread(target=restart)
        second.start()
        try:
            load.run(disturb)
        finally:
            again.set()
            finished.set()
            second.join(60)


def _kill_postgres(settings: Settings) -> None:
    note = state_folder.read_note(settings.state_folder)
    assert note is not None
    os.kill(next(service.pid for service in note.services if service.name == "postgres"), signal.SIGKILL)


def _await_stack_gone(settings: Settings) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with state_folder.held(settings.state_folder):
                return
        except ServiceFailed:
            time.sleep(0.1)
    raise AssertionError("the stack did not end after the death of PostgreSQL")
