"""Back-fills: load first, index afterwards, and never stop a reader.

    drop the index on the vectors (keys stay) ── load ── for each partition: build its index concurrently, attach it

While it lasts, reads by key are as fast as ever and containment queries scan. A crash in between leaves the index
declared but invalid; `mend_index`, called at each start and after each ingest, finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psycopg
import structlog
from psycopg import sql

from mage_platform.contracts import UseCase
from mage_platform.database import Queries, connect
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features.admission import admitted
from mage_platform.features.ingest import IngestReport, ingest
from mage_platform.features.vector_cache import forget
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("bulk.sql"))
LOCK_ATTEMPTS = 60
log = structlog.get_logger()


def ingest_in_bulk(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> IngestReport:
    """Store vectors and labels as `ingest` does, with the index on the vectors taken away for the time being.

    Worth it from about as many vectors as are stored already; below that the pending list of the index is cheaper.

    Raises:
        FeaturesInvalid: A vector breaks the contract. Nothing is written, and the index is there again.
        DatabaseUnavailable: PostgreSQL did not answer, another bulk load runs, or readers hold the table for minutes.
    """
    vectors = admitted(use_case, vectors)  # before anything is taken away
    with _only_one(settings) as alone:
        if not alone:
            raise DatabaseUnavailable("another bulk load runs, or its index is being made: try again when it is done")
        _patiently(settings, _put_index_away)
        try:
            with connect(settings, application_name="mage_platform bulk load") as connection:
                report = ingest(connection, use_case, vectors)
        finally:
            _build(settings)
        forget(settings, use_case.name)
    return report


def mend_index(settings: Settings) -> bool:
    """Finish the index where a bulk load was interrupted.

    Returns:
        Whether the index is there now; False while another process is at it.
    """
    with connect(settings) as connection:
        if _is_whole(connection):
            return True
    with _only_one(settings) as alone:
        if alone:
            log.warning("index of the feature vectors is missing or unfinished, making it")
            _build(settings)
        return alone


def _is_whole(connection: Connection) -> bool:
    return connection.execute(QUERIES.state_of_index).fetchone() == (True,)


@contextmanager
def _only_one(settings: Settings) -> Iterator[bool]:
    with connect(settings, application_name="mage_platform bulk load: lock") as connection:
        connection.execute(QUERIES.stay_while_loading)
        yield connection.execute(QUERIES.begin_load).fetchone() == (True,)


def _put_index_away(connection: Connection) -> None:
    connection.execute(QUERIES.drop_index)
    connection.execute(QUERIES.declare_index)


def _build(settings: Settings) -> None:
    clock = time.monotonic()
    with connect(settings) as connection:
        declared = connection.execute(QUERIES.state_of_index).fetchone()
    if declared is None:
        _patiently(settings, lambda connection: connection.execute(QUERIES.declare_index))
    with connect(settings, application_name="mage_platform bulk load: index") as connection:
        connection.autocommit = True  # what works concurrently works in transactions of its own
        partitions = connection.execute(QUERIES.partitions_without_index).fetchall()
        for partition, index, is_there, is_valid in partitions:
            names = {"partition": sql.Identifier(partition), "index": sql.Identifier(index)}
            if is_there and not is_valid:
                connection.execute(sql.SQL(QUERIES.drop_leftover).format(**names))
            if not is_valid:
                connection.execute(sql.SQL(QUERIES.build_part).format(**names))
            attach = sql.SQL(QUERIES.attach_part).format(**names)
            _patiently(settings, lambda other, attach=attach: other.execute(attach))  # type: ignore[misc]
    log.info(
        "index of the feature vectors made", partitions=len(partitions), seconds=round(time.monotonic() - clock, 3)
    )


def _patiently(settings: Settings, work: Callable[[Connection], object]) -> None:
    """Do what needs a moment without readers, as often as readers are in the way."""
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
