"""Aliases: movable names of versions. Every move is recorded."""

from __future__ import annotations

from mage_platform.contracts import AliasMove, Champion
from mage_platform.database.connections import Connection
from mage_platform.registry.artifacts import QUERIES
from mage_platform.registry.versions import as_model_version, model_version


def champions(connection: Connection, *, use_case: str | None = None, region: str | None = None) -> list[Champion]:
    """The present champions, by use case and region; each argument narrows the list."""
    rows = connection.execute(QUERIES.champions, {"use_case": use_case, "region": region})
    return [Champion(model=as_model_version(row), since=row[11]) for row in rows]


def champion(connection: Connection, use_case: str, region: str) -> Champion | None:
    """The present champion of one region, if there is one."""
    found = champions(connection, use_case=use_case, region=region)
    return found[0] if found else None


def champions_marker(connection: Connection) -> int:
    """A number that changes exactly when some alias has moved; cheap enough to ask every second."""
    row = connection.execute(QUERIES.champions_marker).fetchone()
    assert row is not None
    return int(row[0])


def lock_region(connection: Connection, use_case: str, region: str) -> None:
    """Keep registrations and alias moves of a region waiting until the caller's transaction ends."""
    connection.execute(QUERIES.lock_region, {"use_case": use_case, "region": region})


def move_alias(
    connection: Connection,
    *,
    use_case: str,
    region: str,
    version: int,
    moved_by: str,
    reason: str,
    alias: str = "champion",
) -> AliasMove | None:
    """Point an alias at a version and record the move, in the caller's transaction.

    Returns:
        The recorded move; None when the alias pointed there already.

    Raises:
        ModelNotFound: There is no such version.
    """
    region_key = {"use_case": use_case, "region": region}
    lock_region(connection, use_case, region)
    model_version(connection, use_case, region, version)
    parameters = {**region_key, "alias": alias, "version": version, "moved_by": moved_by, "reason": reason}
    present = connection.execute(QUERIES.alias_version, parameters).fetchone()
    if present is not None and present[0] == version:
        return None
    from_version = present[0] if present else None
    connection.execute(QUERIES.set_alias, parameters)
    row = connection.execute(QUERIES.record_move, {**parameters, "from_version": from_version}).fetchone()
    assert row is not None
    return AliasMove(
        use_case=use_case,
        region=region,
        alias=alias,
        from_version=from_version,
        to_version=version,
        moved_at=row[0],
        moved_by=moved_by,
        reason=reason,
    )


def alias_history(connection: Connection, *, use_case: str | None = None, region: str | None = None) -> list[AliasMove]:
    """Every recorded move, newest first."""
    rows = connection.execute(QUERIES.history, {"use_case": use_case, "region": region})
    names = ("use_case", "region", "alias", "from_version", "to_version", "moved_at", "moved_by", "reason")
    return [AliasMove(**dict(zip(names, row, strict=True))) for row in rows]
