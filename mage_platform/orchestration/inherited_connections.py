"""Keeps a forked process off the database connections of its parent.

Mage forks a process for each block and opens a new session there, but from the engine it inherited: a connection
that lay idle in the parent's pool is then used by several processes at once, and one that was in use is rolled back
over the parent's socket when the child drops it. Either garbles the protocol ("error with status PGRES_TUPLES_OK",
"server closed the connection unexpectedly") and ends a run for no reason of its own.

Source: SQLAlchemy's manual, "Using Connection Pools with Multiprocessing or os.fork()".
"""

from __future__ import annotations

import os
from typing import Any

_inherited: list[Any] = []
"""What a child must neither use nor drop: dropping it would speak on the parent's socket."""


def install_connection_guard() -> None:
    """Give every process forked from now on a pool of its own. Call once, after Mage knows its database."""
    from mage_ai.orchestration.db import db_connection, engine

    if getattr(engine, "guarded_against_fork", False):
        return

    def leave_to_parent() -> None:
        _inherited.extend((engine.pool, db_connection.session, _live_session(db_connection)))
        engine.dispose(close=False)

    os.register_at_fork(after_in_child=leave_to_parent)
    engine.guarded_against_fork = True


def _live_session(db_connection: Any) -> Any:
    scoped = db_connection.session
    return scoped.registry() if scoped is not None and scoped.registry.has() else None
