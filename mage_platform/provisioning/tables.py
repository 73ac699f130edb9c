"""The platform's own tables: brought up to date by one process, waited for by the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mage_platform.database import migrations
from mage_platform.errors import DatabaseUnavailable
from mage_platform.features.bulk import mend_index
from mage_platform.settings import Settings

LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class TablesState:
    """Whether this version of the platform finds the tables it needs."""

    answers: bool
    """Whether the database answered at all."""
    pending: tuple[str, ...]
    """Migrations that are not applied yet, in order."""
    reason: str
    """What is not as it should be, and what to do; empty when all is."""

    @property
    def up_to_date(self) -> bool:
        """Whether the tables are there."""
        return self.answers and not self.pending


def bring_up_to_date(settings: Settings) -> list[str]:
    """Apply what is pending, and finish an index that an interrupted bulk load left away.

    Safe when several processes do so at once: they meet at a lock that is bound to the transaction, so that it holds
    through PgBouncer too.

    Returns:
        Names of the migrations applied now.

    Raises:
        ContractViolated: The database is newer than this code, or an applied migration was edited.
        DatabaseUnavailable: The database did not answer.
    """
    applied = migrations.apply(settings)
    mend_index(settings)
    return applied


def await_database(settings: Settings, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until the database answers, at most so long; whoever works with it then says why it does not."""
    _await(settings, seconds, tell, lambda state: state.answers)


def await_tables(settings: Settings, seconds: float, tell: Callable[[str], None]) -> TablesState:
    """Look until nothing is pending.

    Args:
        settings: Where the database is: PgBouncer in production.
        seconds: How long at most; with 0 it is looked once.
        tell: Told what there is to wait for, each time it changes.

    Returns:
        How it was at the last look.

    Raises:
        ContractViolated: The database is newer than this code, or an applied migration was edited; neither passes.
    """
    return _await(settings, seconds, tell, lambda state: state.up_to_date)


def _await(
    settings: Settings, seconds: float, tell: Callable[[str], None], enough: Callable[[TablesState], bool]
) -> TablesState:
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        state = _look(settings)
        if enough(state) or time.monotonic() >= deadline:
            return state
        if state.reason != told:
            told = state.reason
            tell(f"waiting, at most {seconds:.0f} s: {told}")
        time.sleep(LOOK_EVERY_SECONDS)


def _look(settings: Settings) -> TablesState:
    try:
        pending = tuple(migrations.pending(settings))
    except DatabaseUnavailable as error:
        return TablesState(answers=False, pending=(), reason=str(error))
    if not pending:
        return TablesState(answers=True, pending=(), reason="")
    database = settings.database
    reason = (
        f"database {database.name} at {database.host}:{database.port} lacks {len(pending)} migrations "
        f"({pending[0]}{' to ' + pending[-1] if len(pending) > 1 else ''}): apply them with "
        "`mage-platform database migrate`"
    )
    return TablesState(answers=True, pending=pending, reason=reason)
