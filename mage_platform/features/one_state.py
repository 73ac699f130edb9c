"""Letting several connections read one state of the store, so that an ingest is seen as a whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psycopg import sql

from mage_platform.database import Queries
from mage_platform.database.connections import Connection

QUERIES = Queries(Path(__file__).with_name("one_state.sql"))


def share_one_state(connections: Sequence[Connection]) -> None:
    """Let every connection see the store as the first one does, for the length of its transaction.

    Args:
        connections: None of them has run anything in its transaction yet.
    """
    for connection in connections:
        connection.execute(QUERIES.one_state)
    if len(connections) < 2:
        return
    first, *others = connections
    (state,) = first.execute(QUERIES.export_state).fetchone() or ("",)
    for connection in others:
        connection.execute(sql.SQL(QUERIES.import_state).format(state=sql.Literal(state)))
