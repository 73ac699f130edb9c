"""Roles, databases, and what PgBouncer needs in them: made where they are missing, mended where they differ.

    role platform ── owns ── database platform
    role mage     ── owns ── database mage
    role pgb_auth ── asks both for the verifiers of whoever connects to PgBouncer

Nothing is changed that is right already. A password's verifier above all: PgBouncer remembers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql
from pydantic import SecretStr

from mage_platform.database import Queries
from mage_platform.provisioning import scram
from mage_platform.provisioning.superuser import Superuser
from mage_platform.settings import Settings

POOLER = "pgb_auth"
"""Role with which PgBouncer looks up others; k8s/base/pgbouncer/pgbouncer.ini names it too."""
_FOLDER = Path(__file__).parent
QUERIES = Queries(_FOLDER / "databases.sql")

_State = dict[str, str]


@dataclass(frozen=True)
class LoginPasswords:
    """Passwords of the three roles."""

    platform: SecretStr
    mage: SecretStr
    pooler: SecretStr


@dataclass(frozen=True)
class Changes:
    """What was not as it should be."""

    made: tuple[str, ...]
    """What was missing, such as `role mage`."""
    mended: tuple[str, ...]
    """What was there and differed."""


@dataclass(frozen=True)
class _Role:
    name: str
    password: SecretStr
    purpose: Literal["platform", "mage", "pooler"]
    may_create_databases: bool = False


def provision_databases(
    settings: Settings, superuser: Superuser, passwords: LoginPasswords, *, may_create_databases: bool = False
) -> Changes:
    """Create or mend roles, databases and PgBouncer's look-up. Changes nothing the second time.

    Args:
        settings: Names of databases and roles.
        superuser: Connects past PgBouncer.
        passwords: Of the roles.
        may_create_databases: Whether the platform's role may, which only tests need: they clone a template.

    Raises:
        psycopg.Error: PostgreSQL did not answer, or refused something.
    """
    owners = {
        settings.database.name: settings.database.user,
        settings.mage.database: settings.mage.database_user,
    }
    roles = (
        _Role(settings.database.user, passwords.platform, "platform", may_create_databases),
        _Role(settings.mage.database_user, passwords.mage, "mage"),
        _Role(POOLER, passwords.pooler, "pooler"),
    )
    names = {"roles": [role.name for role in roles], "databases": list(owners)}
    with superuser.connect() as server:
        server.execute(QUERIES.lock)
        before = _State(server.execute(QUERIES.server_state, names).fetchall())
        for role in roles:
            _make_role(server, role)
        server.commit()
        server.autocommit = True
        _make_databases(server, owners)
        after = _State(server.execute(QUERIES.server_state, names).fetchall())
        for database in owners:
            with superuser.connect(database) as inside:
                before |= _State(inside.execute(QUERIES.database_state).fetchall())
                inside.execute((_FOLDER / "database.sql").read_bytes())
                after |= _State(inside.execute(QUERIES.database_state).fetchall())
    return _changes(before, after)


def _make_role(server: psycopg.Connection, role: _Role) -> None:
    password = role.password.get_secret_value()
    row = server.execute(QUERIES.verifier, {"role": role.name}).fetchone()
    verifier = b""
    if not scram.fits(row[0] if row else None, password):
        # only the verifier travels, so that no log or statistics view can ever show the password
        verifier = server.pgconn.encrypt_password(password.encode(), role.name.encode(), b"scram-sha-256")
    handed = {
        "role": role.name,
        "verifier": verifier.decode(),
        "purpose": role.purpose,
        "may_create_databases": "yes" if role.may_create_databases else "no",
    }
    server.execute(QUERIES.hand_over, handed)
    server.execute((_FOLDER / "role.sql").read_bytes())


def _make_databases(server: psycopg.Connection, owners: dict[str, str]) -> None:
    for database, owner in owners.items():
        if server.execute(QUERIES.has_database, {"database": database}).fetchone() is None:
            names = sql.Identifier(database), sql.Identifier(owner)
            server.execute(sql.SQL("create database {} owner {}").format(*names))


def _changes(before: _State, after: _State) -> Changes:
    return Changes(made=_sorted(after.keys() - before.keys()), mended=_sorted(_differing(before, after)))


def _differing(before: _State, after: _State) -> Iterable[str]:
    return (thing for thing in after.keys() & before.keys() if before[thing] != after[thing])


def _sorted(things: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(things))
