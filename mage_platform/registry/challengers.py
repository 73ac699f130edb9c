"""Challengers: versions that take part beside a champion, as canary or as shadow. Every change is recorded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mage_platform.contracts import Challenger, ChallengerChange, Champion, Deployment, ModelVersion
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.registry.versions import as_model_version, model_version

QUERIES = Queries(Path(__file__).with_name("challengers.sql"))


def challengers(connection: Connection, *, use_case: str | None = None, region: str | None = None) -> list[Challenger]:
    """The present challengers, by use case and region; each argument narrows the list."""
    rows = connection.execute(QUERIES.challengers, {"use_case": use_case, "region": region}).fetchall()
    return [
        Challenger(model=model_version(connection, name, place, version), mode=mode, share=share, since=since)
        for name, place, version, mode, share, since in rows
    ]


def end_challenger(
    connection: Connection,
    *,
    use_case: str,
    region: str,
    changed_by: str,
    reason: str,
    version: int | None = None,
) -> ChallengerChange | None:
    """Let a region's challenger take part no more, in the caller's transaction.

    Args:
        connection: Open; it holds the lock of the region.
        use_case: Which use case.
        region: Which region.
        changed_by: Who.
        reason: Why; kept in the history.
        version: Only where it is this one.

    Returns:
        The recorded change; None when there was no such challenger.
    """
    where = {"use_case": use_case, "region": region, "version": version}
    row = connection.execute(QUERIES.drop_challenger, where).fetchone()
    if row is None:
        return None
    change = {**where, "version": row[0], "mode": None, "share": None, "changed_by": changed_by, "reason": reason}
    return record_change(connection, change)


def record_change(connection: Connection, change: dict[str, object]) -> ChallengerChange:
    """Write a change down, in the caller's transaction.

    Args:
        connection: Open.
        change: The fields of a `ChallengerChange` but its moment.
    """
    row = connection.execute(QUERIES.record_change, change).fetchone()
    assert row is not None
    return ChallengerChange.model_validate({**change, "changed_at": row[0]})


def challenger_history(
    connection: Connection, *, use_case: str | None = None, region: str | None = None
) -> list[ChallengerChange]:
    """Every recorded change, newest first."""
    rows = connection.execute(QUERIES.history, {"use_case": use_case, "region": region})
    names = ("use_case", "region", "version", "mode", "share", "changed_at", "changed_by", "reason")
    return [ChallengerChange(**dict(zip(names, row, strict=True))) for row in rows]


def deployments(connection: Connection, known: Collection[ModelVersion] = ()) -> list[Deployment]:
    """Champions and challengers of all regions, by use case and region.

    Args:
        connection: Open.
        known: Versions the caller has read before; of these only what can change is read again, which is what makes a
            move cheap among thousands of models.
    """
    rows = connection.execute(QUERIES.placements).fetchall()
    by_key = {(each.use_case, each.region, each.version): each for each in known}
    fresh = [row for row in rows if not _unchanged(by_key.get((row[0], row[1], row[3])), *row[7:10])]
    if fresh:
        wanted = {"use_cases": 0, "regions": 1, "versions": 3}
        parameters = {name: [row[column] for row in fresh] for name, column in wanted.items()}
        for row in connection.execute(QUERIES.placed_versions, parameters):
            by_key[row[0], row[1], row[2]] = as_model_version(row)
    champions: dict[tuple[str, str], Champion] = {}
    challenging: dict[tuple[str, str], Challenger] = {}
    for use_case, region, _, version, since, mode, share, *_ in rows:
        model = by_key.get((use_case, region, version))
        if model is None:  # it came between the two queries: the marker has changed again, and the next look has it
            continue
        if mode is None:
            champions[use_case, region] = Champion(model=model, since=since)
        else:
            challenging[use_case, region] = Challenger(model=model, mode=mode, share=share, since=since)
    return [Deployment(champion=one, challenger=challenging.get(key)) for key, one in champions.items()]


def _unchanged(known: ModelVersion | None, mojo_sha256: str, genmodel_sha256: str, signature: str | None) -> bool:
    return known is not None and (known.mojo_sha256, known.genmodel_sha256, known.signature) == (
        mojo_sha256,
        genmodel_sha256,
        signature,
    )
