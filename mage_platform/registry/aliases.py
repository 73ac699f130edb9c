"""Aliases: movable names of versions. Every move is recorded."""

from __future__ import annotations

from collections.abc import Sequence

from mage_platform.contracts import AliasMove, ChallengerChange, ChallengerMode, Champion
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, ModelNotFound
from mage_platform.registry.artifacts import QUERIES
from mage_platform.registry.challengers import QUERIES as OF_CHALLENGERS
from mage_platform.registry.challengers import end_challenger, record_change
from mage_platform.registry.versions import as_model_version, model_version


def champions(connection: Connection, *, use_case: str | None = None, region: str | None = None) -> list[Champion]:
    """The present champions, by use case and region; each argument narrows the list."""
    rows = connection.execute(QUERIES.champions, {"use_case": use_case, "region": region})
    return [Champion(model=as_model_version(row), since=row[12]) for row in rows]


def champion(connection: Connection, use_case: str, region: str) -> Champion | None:
    """The present champion of one region, if there is one."""
    found = champions(connection, use_case=use_case, region=region)
    return found[0] if found else None


def champions_marker(connection: Connection) -> int:
    """A number that grows exactly when some alias has moved or a challenger's part changed; cheap enough to ask every
    second."""
    row = connection.execute(QUERIES.champions_marker).fetchone()
    assert row is not None
    return int(row[0])


def lock_region(connection: Connection, use_case: str, region: str) -> None:
    """Hold back registrations and alias moves of a region until the end of the caller's transaction."""
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

    A challenger that becomes champion is a challenger no more.

    Returns:
        The recorded move; None when the alias pointed there already.

    Raises:
        ModelNotFound: There is no such version.
        ContractViolated: Retention has dropped its artifacts, so that it cannot be served.
    """
    region_key = {"use_case": use_case, "region": region}
    lock_region(connection, use_case, region)
    model = model_version(connection, use_case, region, version)
    if model.artifacts_dropped_at is not None:
        raise ContractViolated(
            f"version {version} of {use_case}/{region} cannot be served any more: retention dropped its MOJO on "
            f"{model.artifacts_dropped_at.date()}. `mage-platform models list --all` shows those that can; "
            "`retention` in use_case.yaml says how many are kept",
            field="version",
        )
    parameters = {**region_key, "alias": alias, "version": version, "moved_by": moved_by, "reason": reason}
    present = connection.execute(QUERIES.alias_version, parameters).fetchone()
    if present is not None and present[0] == version:
        return None
    from_version = present[0] if present else None
    connection.execute(QUERIES.set_alias, parameters)
    row = connection.execute(QUERIES.record_move, {**parameters, "from_version": from_version}).fetchone()
    assert row is not None
    if alias == "champion":
        end = f"became champion: {reason}"
        end_challenger(connection, **region_key, version=version, changed_by=moved_by, reason=end)
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


def set_challenger(
    connection: Connection,
    *,
    use_case: str,
    region: str,
    version: int,
    mode: ChallengerMode,
    share: float,
    changed_by: str,
    reason: str,
) -> ChallengerChange | None:
    """Let a version take part beside the champion, in the caller's transaction; it takes the place of another one.

    Args:
        connection: Open.
        use_case: Which use case.
        region: Which region.
        version: Which of its versions.
        mode: Whether it answers, or is scored beside the answer.
        share: Of the entities, above 0 and at most 1.
        changed_by: Who.
        reason: Why; kept in the history.

    Returns:
        The recorded change; None when it stood so already.

    Raises:
        ModelNotFound: There is no such version, or no champion to take part beside.
        ContractViolated: It is the champion itself, or retention has dropped its artifacts.
    """
    lock_region(connection, use_case, region)
    present = champion(connection, use_case, region)
    if present is None:
        raise ModelNotFound(
            f"{use_case}/{region} has no champion for version {version} to take part beside: promote one first "
            "(`mage-platform models promote`)"
        )
    if present.model.version == version:
        raise ContractViolated(f"version {version} is the champion of {use_case}/{region} already", field="version")
    place = {"use_case": use_case, "region": region}
    moved = move_alias(connection, **place, version=version, moved_by=changed_by, reason=reason, alias="challenger")
    part = {**place, "mode": mode, "share": share}
    if connection.execute(OF_CHALLENGERS.set_challenger, {**part, "moved": moved is not None}).fetchone() is None:
        return None
    change = {**part, "version": version, "changed_by": changed_by, "reason": reason}
    return record_change(connection, change)


def rollback_target(moves: Sequence[AliasMove], version: int, *, alias: str = "champion") -> int | None:
    """The version from which `version` took an alias most recently; None when it was the first.

    Args:
        moves: Recorded moves of one region, newest first.
        version: The version that the alias points to now.
        alias: Which alias.
    """
    return next(
        (
            move.from_version
            for move in moves
            if move.alias == alias and move.to_version == version and move.from_version
        ),
        None,
    )


def alias_history(connection: Connection, *, use_case: str | None = None, region: str | None = None) -> list[AliasMove]:
    """Every recorded move, newest first."""
    rows = connection.execute(QUERIES.history, {"use_case": use_case, "region": region})
    names = ("use_case", "region", "alias", "from_version", "to_version", "moved_at", "moved_by", "reason")
    return [AliasMove(**dict(zip(names, row, strict=True))) for row in rows]
