"""Indexes of the feature vectors that a large load takes away and makes anew, without ever stopping a reader.

    declare the index anew, on the parent only ── load ── for each partition: build its part, attach it

A crash in between leaves the index declared but invalid; `DeferredIndex.mend` finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
import structlog
from psycopg import sql

from mage_platform.database import Queries, connect
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("deferred_index.sql"))
LOCK_ATTEMPTS = 60
LEAST_MEMORY_KIBIBYTES = 96 * 1024
"""Below this PostgreSQL gives a build no two workers."""
MOST_MEMORY_KIBIBYTES = 1024 * 1024
Done = TypeVar("Done")
log = structlog.get_logger()


@dataclass(frozen=True)
class DeferredIndex:
    """An index on one column of `platform.features`.

    Args:
        name: Of the index on the parent.
        column: The parts are named by it, as PostgreSQL names them: `<partition>_<column>_idx`.
        declaration: Declares it on the parent where it is missing altogether; empty leaves it missing.
        kibibytes_a_value: Memory in which one value is indexed. 0 builds beside writers, with the server's own memory;
            else writers of a partition wait while its part is built, since only a transaction can be given memory.
    """

    name: str
    column: str
    declaration: sql.SQL
    kibibytes_a_value: int = 0

    def load(self, settings: Settings, work: Callable[[Connection], Done]) -> Done:
        """Do some work in a transaction while the index is away, then make it, whatever became of the work.

        Returns:
            What the work returned.

        Raises:
            DatabaseUnavailable: PostgreSQL did not answer, another large load runs, or readers hold the table for
                minutes.
        """
        with _only_one(settings) as alone:
            if not alone:
                raise DatabaseUnavailable(
                    "another bulk load runs, or its index is being made: try again when it is done"
                )
            _patiently(settings, self._put_away)
            try:
                with connect(settings, application_name="mage_platform bulk load") as connection:
                    return work(connection)
            finally:
                self._make(settings)

    def mend(self, settings: Settings) -> bool:
        """Finish the index where a load was interrupted.

        Returns:
            Whether the index is there now; False while another process is at it.
        """
        with connect(settings) as connection:
            if self._is_whole(connection):
                return True
        with _only_one(settings) as alone:
            if alone:
                log.warning("index of the feature vectors is missing or unfinished, making it", index=self.name)
                self._make(settings)
            return alone

    def _is_whole(self, connection: Connection) -> bool:
        state = connection.execute(QUERIES.state, {"index": self.name}).fetchone()
        return state[0] if state else not self.declaration.as_string()

    def _put_away(self, connection: Connection) -> None:
        state = connection.execute(QUERIES.state, {"index": self.name}).fetchone()
        if state:
            connection.execute(sql.SQL(QUERIES.drop_index).format(index=sql.Identifier(self.name)))
            connection.execute(state[1].encode())

    def _make(self, settings: Settings) -> None:
        clock = time.monotonic()
        with connect(settings) as connection:
            state = connection.execute(QUERIES.state, {"index": self.name}).fetchone()
        if state is None and self.declaration.as_string():
            _patiently(settings, lambda connection: connection.execute(self.declaration))
        how = {"index": self.name, "column": self.column, "how": "" if self.kibibytes_a_value else "CONCURRENTLY"}
        with connect(settings, application_name="mage_platform bulk load: index") as connection:
            connection.autocommit = True  # what works concurrently works in transactions of its own
            partitions = connection.execute(QUERIES.partitions_without_part, how).fetchall()
            for partition, part, is_there, is_valid, create in partitions:
                names = {"index": sql.Identifier(self.name), "part": sql.Identifier(part)}
                if is_there and not is_valid:
                    connection.execute(sql.SQL(QUERIES.drop_leftover).format(**names))
                if not is_valid and self.kibibytes_a_value:
                    self._build_in_memory(settings, partition, create.encode())
                elif not is_valid:
                    connection.execute(create.encode())
                attach = sql.SQL(QUERIES.attach_part).format(**names)
                _patiently(settings, lambda other, attach=attach: other.execute(attach))  # type: ignore[misc]
        seconds = round(time.monotonic() - clock, 3)
        log.info("index of the feature vectors made", index=self.name, partitions=len(partitions), seconds=seconds)

    def _build_in_memory(self, settings: Settings, partition: str, create: bytes) -> None:
        names = {"column": sql.Identifier(self.column), "partition": sql.Identifier(partition)}
        with connect(settings) as connection:
            (values,) = connection.execute(sql.SQL(QUERIES.count_values).format(**names)).fetchone() or (0,)
        needed = max(LEAST_MEMORY_KIBIBYTES, min(values * self.kibibytes_a_value, MOST_MEMORY_KIBIBYTES))

        def build(connection: Connection, workers: bool) -> None:
            connection.execute(QUERIES.set_memory, {"kibibytes": needed, "workers": workers})
            connection.execute(create)

        try:
            _patiently(settings, lambda connection: build(connection, True))
        except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
            # workers share memory, and a container may have too little of it: /dev/shm is 64 MiB unless told otherwise
            log.warning("index is made without parallel workers", partition=partition, reason=str(error).strip())
            _patiently(settings, lambda connection: build(connection, False))


@contextmanager
def _only_one(settings: Settings) -> Iterator[bool]:
    with connect(settings, application_name="mage_platform bulk load: lock") as connection:
        connection.execute(QUERIES.stay_while_loading)
        yield connection.execute(QUERIES.begin_load).fetchone() == (True,)


def _patiently(settings: Settings, work: Callable[[Connection], object]) -> None:
    """Do what needs a moment without readers or writers, as often as they are in the way."""
    for attempt in range(LOCK_ATTEMPTS):
        with connect(settings) as connection:
            try:
                connection.execute(QUERIES.wait_briefly)
                work(connection)
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                connection.rollback()
        time.sleep(min(0.1 * 2**attempt, 2.0))
    raise DatabaseUnavailable(
        "long transactions hold the table platform.features (see pg_stat_activity), so its index cannot be changed: "
        "end them and start again"
    )
