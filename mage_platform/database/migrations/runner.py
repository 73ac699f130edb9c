"""Applies the numbered `.sql` files beside this module, each once, in one transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mage_platform.database.connections import Connection, connect
from mage_platform.errors import ContractViolated
from mage_platform.settings import Settings

# Two processes that start at once meet at this lock; it is bound to the transaction, so PgBouncer can carry it.
LOCK = 7_420_911_300


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the text, to notice a file that was changed after it had been applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def available() -> list[Migration]:
    """All migrations of this version of the platform, in order."""
    files = sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(file.name[:4]), file.stem[5:], file.read_text(encoding="utf-8")) for file in files]


def apply(settings: Settings) -> list[str]:
    """Bring the schema up to date; safe when several processes start at once.

    Returns:
        The names of the migrations applied now.

    Raises:
        ContractViolated: The database is newer than this code, or an applied migration was edited.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    with connect(settings, application_name="mage_platform migrations") as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        connection.execute("CREATE SCHEMA IF NOT EXISTS platform")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS platform.schema_migrations (number integer PRIMARY KEY, name text NOT NULL, "
            "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        todo = _pending(connection)
        for migration in todo:
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO platform.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.sha256],
            )
        # at every start: a server may have got pgvector since the last one
        connection.execute("SELECT platform.offer_embeddings()")
    return [migration.name for migration in todo]


def pending(settings: Settings) -> list[str]:
    """Names of the migrations that `apply` would apply. Changes nothing.

    Raises:
        ContractViolated: The database is newer than this code, or an applied migration was edited.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    with connect(settings) as connection:
        return [migration.name for migration in _pending(connection)]


def _pending(connection: Connection) -> list[Migration]:
    migrations = available()
    if connection.execute("SELECT to_regclass('platform.schema_migrations')").fetchone() == (None,):
        return migrations
    applied = dict(connection.execute("SELECT number, sha256 FROM platform.schema_migrations").fetchall())
    for migration in migrations:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise ContractViolated(
                f"migration {migration.number:04d}_{migration.name} was edited after it had been applied: "
                "restore the file and put the change into a new migration"
            )
    unknown = sorted(set(applied) - {migration.number for migration in migrations})
    if unknown:
        raise ContractViolated(
            f"the database has migrations {unknown} that this version of the platform does not know: "
            "it was used by a newer version; update the code"
        )
    return [migration for migration in migrations if migration.number not in applied]
